// Package paper puts what a person is to read or take away on paper: as a page of HTML
// that needs nothing else, as PDF, and as CSV that a spreadsheet may open. The same
// sheet gives the same bytes.
//
// Texts come from events, and so from anybody: no form of output lets them be more than
// text.
package paper
