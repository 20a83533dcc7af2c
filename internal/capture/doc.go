// Package capture says what to record of software that does not record itself, and
// what to refuse: policies, whose conditions and events are expressions in CEL over
// a resource as it is and as it was.
//
//	spec:                                       a resource's old and new state
//	  match: [remediationplans]                          │
//	  record:                                           ▼
//	  - when: object.status.state == 'Failed'  ──────► an event, with the fact
//	    fact: object.metadata.uid + '/failed'           that it tells
//	  require:
//	  - that: size(object.spec.reason) >= 10   ──────► a refusal, with its words
//
// It knows no API server: whoever watches, or is asked at admission, gives it
// states. What holds:
//
//   - sha256(string) beside CEL's own functions gives hexadecimal digits.
//   - A policy that compiles reads nothing but its input, costs no more than
//     [MaxCost] on one state, and ends when its context does.
//   - An expression that fails is an error that names it. A `when` that fails for a
//     member that is not there says no: states without a status are common.
//   - The same states give the same events, ids included: an event's id follows
//     from its fact, and where it was seen.
package capture
