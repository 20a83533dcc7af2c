// Package admission answers an API server that asks whether requests may be: it
// records who asks for what, by capture policies, and refuses what they require
// otherwise.
//
//	somebody ──request──► API server ──AdmissionReview──► policies ──► an intent
//	                          ▲                              │
//	                          └────── allowed, or why not ◄──┘
//
// What holds:
//
//   - Who asks is known from the API server alone, which is known by the secret in
//     the path: a question that comes otherwise is not answered.
//   - A dry run is judged as any request, and never recorded.
//   - What is recorded is what was asked for; whether it was done others tell.
//   - A request is allowed once its event is durable: on the operator's disk, or, for
//     policies that refuse what cannot be recorded, in the ledger.
package admission
