package rest

import (
	"net/http"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/intake"
)

// ingestKubeAudit answers POST /api/v1/ingest/kube-audit, to which a
// kube-apiserver's audit webhook posts EventLists. It answers 200 whenever the
// list as such can be read: API servers take any other answer for a reason to
// send all of it again.
func (s *Server) ingestKubeAudit(c *call) error {
	// API servers add timeout parameters of their own.
	cluster := c.r.PathValue("cluster") // in the path, for they leave out parameters of ours
	data, err := s.body(c)
	if err != nil {
		return err
	}
	var items []item
	err = intake.KubeAuditList(data, maxItems, func(_ int, e *event.Event, err error) error {
		if err == nil {
			e.Cluster = cluster
			e.ClampTimestamp(time.Now())
			err = s.recordable(c, e)
		}
		items = append(items, item{event: e, err: err})
		return nil
	})
	if err != nil {
		return err
	}
	if len(items) == 0 {
		return c.json(http.StatusOK, []byte(`{"event_ids":[],"message":"0 of 0 events recorded","accepted":0,"duplicates":0,"rejected":0,"items":[]}`+"\n"))
	}
	return s.answerBatch(c, c.witness(), items, http.StatusOK, http.StatusOK)
}
