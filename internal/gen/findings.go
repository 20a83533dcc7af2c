package main

import (
	"bytes"
	"fmt"

	"github.com/graven-audit/graven/internal/finding"
)

const findingsIntro = `<!-- Written by internal/gen from internal/finding/rules.yaml; change that and run make generate. -->

# Findings

` + "```sh" + `
graven findings list --state open                 # what the trail shows to be wrong
graven findings show 019310a2-7c1e-7d52-9f6e-3f1f6f0c7a11
graven findings acknowledge ID --reason "the platform team looks into it"
graven findings accept ID --until 2027-03-31 --reason "the old controller cannot do better"
graven findings resolve ID --reason "jane approved it on the phone, case 12/26"
` + "```" + `

The server looks through the ledger as it grows, beside recording, which never waits for it. What a rule below finds is an event, FindingOpened, with the indexes of the entries that show it (at most 100). What a finding says follows from the ledger's entries up to the one that led to it, and from nothing else: after a restart, on another server of the same ledger, or looked through anew, it is found once.

- **open** until somebody says what becomes of it, or it is withdrawn: later entries explain it (FindingWithdrawn), as when an approver whom a program named is confirmed by the API server.
- **acknowledged**: somebody looks into it. **accepted**: somebody answers for it as it is, until a time, a year at most; then it is open again. **resolved**: it is settled. Each with who said so and why, as an event. **Reopened**, it is open.
- Saying so takes the permission ` + "`judge`" + ` (roles admin and superadmin; ` + "`create auditevents/findings`" + ` in Kubernetes), reading ` + "`read`" + `. A finding is seen by those who see its namespace.
- Facts are judged, not tellings: of several events that tell the same, the one from the best known source says who did it. What was only asked for at admission is neither execution nor approval.
- What was erased shows nothing: a rule that needs it stays quiet.

Over HTTP: ` + "`GET /api/v1/findings`" + ` (` + "`rule`, `state`, `severity`, `incident`, `namespace`, `from`, `to`, `limit`, `before`" + `), ` + "`/api/v1/findings/{id}`, `/api/v1/findings/rules`, and `POST /api/v1/findings/{id}/acknowledge|accept|resolve|reopen`" + ` with ` + "`reason`" + ` and, to accept, ` + "`until`" + `. The metric ` + "`graven_findings_opened_total{rule,severity}`" + ` counts what a server opened.

## Rules of your own

In the server's configuration; ` + "`when`" + ` is CEL over ` + "`event`" + `, an event in its native form. A rule that cannot be read keeps the server from starting, with its name. It holds from the entry on up to which the server has looked; to look through the ledger anew, delete ` + "`inspected.json`" + ` from the data directory while the server is stopped.

` + "```yaml" + `
findings:
  rules:
  - name: freeze-broken          # lower-case letters, digits and hyphens; for ever
    title: Executed during the change freeze
    severity: high               # critical, high, medium (the default), low, info
    when: event.eventType == "RemediationExecuted" && event.timestamp >= timestamp("2026-12-20T00:00:00Z")
` + "```" + `

## Rules

| rule | severity | |
|---|---|---|
`

// findingsPage returns the rules of findings as a page for people.
func findingsPage() []byte {
	var b bytes.Buffer
	b.WriteString(findingsIntro)
	for _, r := range finding.Rules() {
		fmt.Fprintf(&b, "| [`%s`](#%s) | %s | %s |\n", r.Name, r.Name, r.Severity, cell(r.Title))
	}
	for _, r := range finding.Rules() {
		fmt.Fprintf(&b, "\n### %s\n\n%s *(%s)*. %s\n\n%s\n", r.Name, r.Title, r.Severity, r.Means, r.Do)
	}
	return b.Bytes()
}
