// Package narrative tells an incident as a person would: what was noticed, what was made
// of it, what was decided and by whom, what was done, whether it worked, how it ended,
// and what the trail does not say.
//
//	events ──► facts ──► steps, in order of time ──► passages ──► text, Markdown, JSON
//
// It is computed from the incident's events alone. What holds:
//
//   - Several tellings of one fact are one step, which names all of them. Who did it, and
//     when, the telling says whose source is known best: admission, then whom the server
//     authenticated, then what was observed, then what a program says.
//   - What was asked for at admission is told as asked for until something shows that it
//     was done.
//   - A sentence has what the details say. What they do not say is left out, and what was
//     erased is told as erased.
//   - Texts of events are given as they are in JSON; [Story.Text] is safe on a terminal, and
//     [Story.Markdown] shows them as text and nothing else.
package narrative
