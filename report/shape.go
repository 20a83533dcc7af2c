package report

import "time"

// A ComplianceReport is the report of one window. Its first five members are those that
// ChatCLI documents: durations are texts such as 2m15s, rates go from 0 to 1.
type ComplianceReport struct {
	IncidentMetrics    IncidentMetrics    `json:"incidentMetrics"`
	RemediationMetrics RemediationMetrics `json:"remediationMetrics"`
	SLAMetrics         SLAMetrics         `json:"slaMetrics"`
	ApprovalMetrics    ApprovalMetrics    `json:"approvalMetrics"`
	AuditSummary       AuditSummary       `json:"auditSummary"`

	// Namespace is the one that was asked for; empty for all.
	Namespace string `json:"namespace"`
	// Window is From to To; To is not part of it.
	Window Window `json:"window"`
	// IncludesChaos says whether incidents of chaos experiments count.
	IncludesChaos bool `json:"includesChaos"`
	// Ledger is what the report was computed from.
	Ledger Ledger `json:"ledger"`
	// Notes say what a reader must know before using the numbers.
	Notes []string `json:"notes"`
	// Numbers say of each number what it means and how it came about.
	Numbers []Number `json:"numbers"`
}

// A Window is a span of time.
type Window struct {
	From   time.Time `json:"from"`
	To     time.Time `json:"to"`
	Length string    `json:"length"`
}

// A Ledger is the state of a ledger that a report was computed from. The same window at
// the same size gives the same report.
type Ledger struct {
	Origin string `json:"origin"`
	Size   int64  `json:"size"`
	Root   string `json:"root"` // base64, as in a checkpoint
}

// IncidentMetrics tell how soon problems were noticed and resolved.
type IncidentMetrics struct {
	TotalIncidents          int            `json:"totalIncidents"`
	MTTD                    string         `json:"mttd"`
	MTTA                    string         `json:"mtta"`
	MTTR                    string         `json:"mttr"`
	MedianTimeToResolve     string         `json:"medianTimeToResolve"`
	MeanRemediationAttempts float64        `json:"meanRemediationAttempts"`
	IncidentsBySeverity     map[string]int `json:"incidentsBySeverity"`
	IncidentsByState        map[string]int `json:"incidentsByState"`
	Reopened                int            `json:"reopened"`
	ChaosIncidents          int            `json:"chaosIncidents"`
}

// RemediationMetrics tell what remediations did.
type RemediationMetrics struct {
	TotalRemediations int                   `json:"totalRemediations"`
	SuccessRate       float64               `json:"successRate"`
	Succeeded         int                   `json:"succeeded"`
	Failed            int                   `json:"failed"`
	RolledBack        int                   `json:"rolledBack"`
	InProgress        int                   `json:"inProgress"`
	ByActionType      map[string]ActionType `json:"byActionType"`
	AutoVsManual      AutoVsManual          `json:"autoVsManual"`
}

// An ActionType tells of the actions of one type.
type ActionType struct {
	Total       int     `json:"total"`
	Successful  int     `json:"successful"`
	SuccessRate float64 `json:"successRate"`
}

// AutoVsManual counts remediations by how it was decided to execute them.
type AutoVsManual struct {
	Auto                 int     `json:"auto"`
	AutoWithNotification int     `json:"autoWithNotification"`
	ManualApproved       int     `json:"manualApproved"`
	ManualOnly           int     `json:"manualOnly"`
	Unknown              int     `json:"unknown"`
	AutoPercentage       float64 `json:"autoPercentage"`
}

// SLAMetrics tell which promises about incidents were kept.
type SLAMetrics struct {
	TotalIssuesInWindow   int               `json:"totalIssuesInWindow"`
	ResolvedWithinSLA     int               `json:"resolvedWithinSLA"`
	CompliancePercentage  float64           `json:"compliancePercentage"`
	NotYetDue             int               `json:"notYetDue"`
	NoTarget              int               `json:"noTarget"`
	ResponseDue           int               `json:"responseDue"`
	RespondedWithinSLA    int               `json:"respondedWithinSLA"`
	ResponseSLAViolations int               `json:"responseSLAViolations"`
	SLATargets            map[string]string `json:"slaTargets"`
	ResponseTargets       map[string]string `json:"responseTargets"`
	Violations            []Violation       `json:"violations"`
	// MoreViolations counts those beyond the first [MaxViolations].
	MoreViolations int `json:"moreViolations"`
}

// MaxViolations bounds the violations that a report lists.
const MaxViolations = 1000

// A Violation is a promise about an incident that was not kept.
type Violation struct {
	Issue            string `json:"issue"`
	Namespace        string `json:"namespace"`
	CorrelationID    string `json:"correlationID"`
	Severity         string `json:"severity"`
	SLATarget        string `json:"slaTarget"`
	ActualResolution string `json:"actualResolution"`
	// Open says that the incident is not resolved, and the time so far is told.
	Open   bool   `json:"open"`
	Reason string `json:"reason"`
}

// ApprovalMetrics tell how it was decided what needed a decision.
type ApprovalMetrics struct {
	TotalApprovalRequests int      `json:"totalApprovalRequests"`
	AutoApproved          int      `json:"autoApproved"`
	ManualApproved        int      `json:"manualApproved"`
	Rejected              int      `json:"rejected"`
	Expired               int      `json:"expired"`
	Pending               int      `json:"pending"`
	MeanApprovalTime      string   `json:"meanApprovalTime"`
	RejectionReasons      []string `json:"rejectionReasons"`
}

// An AuditSummary counts all facts of the window.
type AuditSummary struct {
	TotalEvents      int            `json:"totalEvents"`
	Tellings         int            `json:"tellings"`
	EventsByType     map[string]int `json:"eventsByType"`
	EventsBySeverity map[string]int `json:"eventsBySeverity"`
	EventsByActor    map[string]int `json:"eventsByActor"`
}

// A Number says what one number of a report means and how it came about.
type Number struct {
	// Key is the number's place in the report, such as incidentMetrics.mttr.
	Key   string `json:"key"`
	Title string `json:"title"`
	Value string `json:"value"`
	// N is how many things the number is about.
	N   int    `json:"n"`
	P50 string `json:"p50,omitempty"`
	P90 string `json:"p90,omitempty"`
	P95 string `json:"p95,omitempty"`
	// Definition says what is counted, when the clock starts and stops.
	Definition string `json:"definition"`
	// Excluded are things that would have been counted, by why they were not.
	Excluded map[string]int `json:"excluded,omitempty"`
	// Evidence is the question, below the server's address, that the events behind the
	// number answer.
	Evidence string `json:"evidence"`
	// Previous is the value in the window of the same length before; Change says what
	// can be said of the difference.
	Previous string `json:"previous,omitempty"`
	Change   string `json:"change,omitempty"`
}
