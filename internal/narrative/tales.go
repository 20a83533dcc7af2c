package narrative

import (
	"strings"

	"github.com/graven-audit/graven/event"
)

// A Part is what a step is in the story.
type Part string

// The parts, in the order of a story.
const (
	Signal   Part = "signal"
	Analysis Part = "analysis"
	Decision Part = "decision"
	Approval Part = "approval"
	Action   Part = "action"
	Effect   Part = "effect"
	End      Part = "end"
	Beside   Part = "beside"
)

// A telling says what an event of a type is in a story, and how it is told: what stands in
// brackets is told if all that it names is there. Names are those of details, of which
// the first that is there counts, or of the event with an @.
type telling struct {
	part Part
	text string
}

var tales = map[string]telling{
	"AnomalyDetected":          {Signal, "An anomaly was detected[: {signalType}][ on {target}][, {value}][ against {threshold}][. {description}]"},
	"AnomalyCorrelated":        {Signal, "The anomaly was taken for a part of issue {issue|@correlation}[, suppressed: {suppressed}]"},
	"CrossClusterCorrelation":  {Signal, "The same was seen in several clusters[: {clusters}][, which made it {elevatedSeverity}]"},
	"CascadeDetected":          {Signal, "It had come over from another cluster[, {sourceCluster}][, issue {sourceIssue}]"},
	"SLOViolation":             {Signal, "A service level objective was violated[, within {window}][ at {burn_rate} times the rate that was planned]"},
	"IssueCreated":             {Signal, "Issue {@name} was opened[ for {resource}][: {description}][ (risk {riskScore} of 100)][, in the chaos experiment {chaosExperiment}]"},
	"IssueAcknowledged":        {Signal, "The issue was acknowledged"},
	"IssueSnoozed":             {Signal, "The issue was put off[ until {until}]"},
	"ChaosExperimentStarted":   {Action, "A chaos experiment was started[: {type}][ on {target}][ for {duration}]"},
	"ChaosExperimentCompleted": {Effect, "The chaos experiment ended[: {result|state}][, {podsAffected} pods affected][, recovered in {recoveryTime}]"},

	"AIInsightRequested":     {Analysis, "An analysis was asked for[ of {provider}][ {model}]"},
	"AIInsightCompleted":     {Analysis, "The analysis was made[ by {provider}][ {model}][, confidence {confidence}][; suggested: {suggestedActions}]"},
	"AIInsightFailed":        {Analysis, "The analysis failed[: {error}]"},
	"RCAEnrichmentCompleted": {Analysis, "Causes were looked for[: {possibleCauses}]"},
	"PatternMatched":         {Analysis, "It matched an earlier pattern[, which {successCount} remediations ended][ and {failureCount} did not]"},
	"PatternLearned":         {Analysis, "It was learned as a pattern[, {fingerprint}]"},

	"ConfidenceCalculated": {Decision, "The decision engine came to a confidence of {final|base}[, mode {decisionMode}]"},
	"RemediationPlanned":   {Decision, "Plan {@name} was made[, attempt {attempt}][: {strategy}][; actions: {actions}][; mode {decisionMode}]"},

	"ApprovalRequested": {Approval, "Approval was asked for[, plan {plan}][, under policy {policy}][, rule {rule}][, risk {riskLevel}][, of {requiredApprovers}][, within {timeoutMinutes} minutes]"},
	"ApprovalGranted":   {Approval, "It was approved[: {reason}]"},
	"ApprovalRejected":  {Approval, "It was rejected[: {reason}]"},
	"ApprovalExpired":   {Approval, "The request for approval expired[ after {timeoutMinutes} minutes]"},
	"ApprovalAttempted": {Approval, "Somebody tried to decide[: {decision}][ as {claim}][, {reason}]"},
	"IdentityForged":    {Approval, "Somebody acted in another's name: claimed to be {claimed}"},
	"RequestRefused":    {Approval, "A request was refused[: {message}]"},

	"RemediationExecuted":     {Action, "Executed[ {action|strategy}][ on {target}][, revision {fromRevision}][ to {toRevision}][: {result}]"},
	"AgenticStepExecuted":     {Action, "Step[ {stepNumber}] of the agent[: {action}][ → {observation}]"},
	"CircuitBreakerTriggered": {Action, "The circuit breaker opened[ after {failures} failures][ within {window}]"},
	"RemediationSucceeded":    {Effect, "The remediation succeeded[: {result}][, in {duration}]"},
	"RemediationFailed":       {Effect, "The remediation failed[: {result}][, in {duration}][; rollback: {rollbackPerformed}][, {rollbackResult}][; healthy afterwards: {postFailureHealthy}]"},

	"IssueResolved":          {End, "The issue was resolved[: {resolution}][, by way of {mode}]"},
	"IssueContained":         {End, "The issue was contained, and its cause is left[; required: {required_action}]"},
	"IssueEscalated":         {End, "The issue was escalated[ from {fromSeverity}][ to {toSeverity}][: {reason}][, after {attempts} attempts]"},
	"EscalationTriggered":    {End, "An escalation was triggered[ by policy {policy}][, level {level|currentLevel}]"},
	"SLABreach":              {End, "The {type} time that was promised was not kept[: {elapsed}][ against {threshold}]"},
	"PostMortemCreated":      {End, "A post-mortem was begun[: {rootCause}][; impact: {impact}][; required: {requiredAction}]"},
	"PostMortemAcknowledged": {End, "The post-mortem's required action was acknowledged[: {note}]"},

	"gateway.signal.received":                       {Signal, "Signal {signal_name|@name} was received[ ({signal_type})][, severity {severity}][, for {resource_kind}][/{resource_name}][ in {namespace}]"},
	"gateway.signal.deduplicated":                   {Signal, "The signal came again[, {occurrence_count} times by now]"},
	"gateway.crd.created":                           {Signal, "Remediation request {remediation_request|@name} was made"},
	"apifrontend.rr.created":                        {Signal, "A person asked for a remediation[: {signal_name}][ of {target_kind}][/{target_name}]"},
	"orchestrator.lifecycle.created":                {Signal, "Remediation request {rr_name|@name} was taken up[: {signal_name}][, severity {severity}]"},
	"signalprocessing.classification.decision":      {Signal, "It was classified[: environment {environment}][, priority {priority}][, severity {normalized_severity|severity}]"},
	"aianalysis.analysis.completed":                 {Analysis, "The analysis was made[, confidence {confidence}][; chosen: {workflow_id}][; approval required: {approval_required}][, for {approval_reason}]"},
	"aianalysis.analysis.failed":                    {Analysis, "The analysis failed[: {reason}][, {sub_reason}]"},
	"aiagent.rca.complete":                          {Analysis, "The agent found a cause[: {rca_summary}][, confidence {confidence}]"},
	"workflow.catalog.actions_listed":               {Analysis, "Kinds of actions were listed[: {action_types|results}]"},
	"workflow.catalog.workflows_listed":             {Analysis, "Workflows were weighed[, {workflow_count} of them][: {results}]"},
	"workflow.catalog.workflow_retrieved":           {Analysis, "Workflow {workflow_id|@name} was looked at"},
	"workflow.catalog.selection_validated":          {Decision, "Workflow {workflow_id|@name} was checked[: valid {valid}]"},
	"aianalysis.approval.decision":                  {Decision, "Whether somebody must approve was decided[: {decision}][, required {approval_required}][, {approval_reason|reason}][, confidence {confidence}]"},
	"workflowexecution.selection.completed":         {Decision, "Workflow {workflow_name|workflow_id} was chosen[ for {target_resource}]"},
	"remediation.workflow_created":                  {Decision, "Workflow {workflow_id} was prepared[ for {target_resource}]"},
	"orchestrator.routing.blocked":                  {Decision, "It was blocked[: {block_reason}][, {block_message}][, until {blocked_until}][, for {blocking_workflow_execution}]"},
	"apifrontend.user.decision":                     {Decision, "A person decided[: {decision}][, workflow {workflow_id}]"},
	"orchestrator.approval.requested":               {Approval, "Approval was asked for[, request {rar_name}][, workflow {workflow_id}][, confidence {confidence}][, by {required_by}][: {reason}]"},
	"orchestrator.approval.approved":                {Approval, "It was approved[: {decision_message}]"},
	"orchestrator.approval.rejected":                {Approval, "It was not approved[, {decision}][: {decision_message}]"},
	"webhook.remediationapprovalrequest.decided":    {Approval, "Decided: {decision|@outcome}[: {decision_message}]"},
	"workflowexecution.execution.started":           {Action, "Workflow {workflow_name|workflow_id|@name} was started[ on {target_resource}]"},
	"workflowexecution.workflow.completed":          {Action, "Workflow {workflow_name|workflow_id|@name} was completed[ on {target_resource}][ in {duration}]"},
	"workflowexecution.workflow.failed":             {Action, "Workflow {workflow_name|workflow_id|@name} failed[ on {target_resource}][: {failure_reason}][, {failure_message}]"},
	"workflowexecution.block.cleared":               {Action, "A block was cleared[: {clear_reason}][; it had been blocked for {block_reason}]"},
	"orchestrator.lifecycle.verification_completed": {Effect, "The verification was completed[: {crd_outcome}]"},
	"orchestrator.lifecycle.verification_timed_out": {Effect, "The verification took too long, and was given up"},
	"effectiveness.health.assessed":                 {Effect, "Health was assessed[, score {score}][: {details}]"},
	"effectiveness.alert.assessed":                  {Effect, "The alert was assessed[, score {score}][: {alert_resolution|details}]"},
	"effectiveness.alert_decay.detected":            {Effect, "The alert was about to end[: {alert_resolution|details}]"},
	"effectiveness.metrics.assessed":                {Effect, "Metrics were assessed[, score {score}][: {metric_deltas|details}]"},
	"effectiveness.hash.computed":                   {Effect, "The target was compared with what it was[: the same {hash_match}]"},
	"effectiveness.assessment.completed":            {Effect, "The effect was assessed[: {reason}][, score {score}][, of {components_assessed}]"},
	"orchestrator.lifecycle.completed":              {End, "The remediation request was ended[: {crd_outcome|outcome}][, {skip_reason}]"},
	"orchestrator.lifecycle.failed":                 {End, "The remediation request failed[ in phase {failure_phase}][: {failure_reason|error_details}]"},
	"orchestrator.remediation.manual_review":        {End, "It was given to a person[: {reason}]"},
	"orchestrator.lifecycle.transitioned":           {Beside, "From phase {from_phase} to {to_phase}"},
	"NotificationSent":                              {Beside, "A notification was sent[ over {channel}][: {success}]"},
	"CaptureGap":                                    {Beside, "What happened was not followed[ since {since}][: {reason}]"},
}

// byCategory are the parts of types that have no tale of their own.
var byCategory = map[string]Part{"detection": Signal, "gateway": Signal, "signalprocessing": Signal, "analysis": Analysis, "aiagent": Analysis, "workflow": Analysis,
	"remediation": Action, "workflowexecution": Action, "approval": Approval, "effectiveness": Effect}

// told returns what a fact is in the story, and the sentence that tells it.
func (f *told) tale() (Part, string) {
	e := f.Event()
	known, ok := tales[e.EventType]
	if !ok {
		text := e.EventType
		if t, catalogued := event.Lookup(e.EventType); catalogued {
			text = strings.TrimSuffix(t.Description, ".")
		}
		part := byCategory[e.Category]
		if part == "" {
			part = Beside
		}
		return part, text + f.rest()
	}
	var b strings.Builder
	text := known.text
	if e.EventType == "RemediationExecuted" && f.Detail("action", "strategy") == "" {
		text = "Plan {@name} was begun[, attempt {attempt}]"
	}
	for text != "" {
		open := strings.IndexByte(text, '[')
		if open < 0 {
			open = len(text)
		}
		plain, _ := f.filled(text[:open])
		b.WriteString(plain)
		if text = text[open:]; text != "" {
			end := strings.IndexByte(text, ']')
			if optional, all := f.filled(text[1:end]); all {
				b.WriteString(optional)
			}
			text = text[end+1:]
		}
	}
	if rest := f.rest(); !strings.Contains(b.String(), strings.Trim(rest, " ()")) {
		b.WriteString(rest)
	}
	return known.part, b.String()
}

// rest is what a failed event says of why.
func (f *told) rest() string {
	for _, t := range f.Tellings {
		if e := t.Event; e.Error.Message != "" || e.Error.Code != "" {
			return " (" + strings.TrimSpace(e.Error.Code+" "+e.Error.Message) + ")"
		}
	}
	return ""
}

// filled returns a text with what it names in place of the names, and whether all of
// that is there.
func (f *told) filled(text string) (string, bool) {
	all := true
	var b strings.Builder
	for {
		before, after, ok := strings.Cut(text, "{")
		b.WriteString(before)
		if !ok {
			return b.String(), all
		}
		names, after, _ := strings.Cut(after, "}")
		value := f.named(strings.Split(names, "|"))
		if value == "" {
			all, value = false, "(unknown)"
		}
		b.WriteString(value)
		text = after
	}
}

func (f *told) named(names []string) string {
	for _, name := range names {
		value := ""
		switch name {
		case "@name":
			value = f.Event().Resource.Name
		case "@correlation":
			value = f.Event().CorrelationID
		case "@outcome":
			value = f.Event().Outcome
		default:
			value = f.Detail(name)
		}
		if value != "" {
			return value
		}
	}
	return ""
}
