// Package access knows who may do what: principals, their roles, and the
// tokens that prove who calls.
package access

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/graven-audit/graven/event"
)

// A Permission allows one kind of act.
type Permission string

// The permissions. Each route needs exactly one.
const (
	Read        Permission = "read"   // events, incidents, proofs, the stream
	Record      Permission = "record" // send events
	Export      Permission = "export" // take events away in bulk
	Verify      Permission = "verify" // have the ledger checked; fetch its tiles
	ReadAccess  Permission = "access" // see who read what
	ManageToken Permission = "tokens" // make and revoke tokens
	Hold        Permission = "hold"   // place, change and release legal holds
	Erase       Permission = "erase"  // erase the content of events
	Judge       Permission = "judge"  // say of findings what becomes of them
)

// A Role is a set of permissions.
type Role string

// The roles.
const (
	Viewer     Role = "viewer"
	Recorder   Role = "recorder"
	Operator   Role = "operator"
	Auditor    Role = "auditor"
	Admin      Role = "admin"
	Superadmin Role = "superadmin"
)

var roles = map[Role][]Permission{
	Viewer:     {Read, Export, Verify},
	Recorder:   {Record},
	Operator:   {Read, Export, Verify, Record},
	Auditor:    {Read, Export, Verify, ReadAccess},
	Admin:      {Read, Export, Verify, ReadAccess, Record, ManageToken, Hold, Judge},
	Superadmin: {Read, Export, Verify, ReadAccess, Record, ManageToken, Hold, Judge, Erase},
}

// Roles returns all roles, the weakest first.
func Roles() []Role { return []Role{Viewer, Recorder, Operator, Auditor, Admin, Superadmin} }

// ParseRole returns the role called s.
func ParseRole(s string) (Role, error) {
	if _, ok := roles[Role(s)]; !ok {
		return "", fmt.Errorf("no role %.40q; there are %v", s, Roles())
	}
	return Role(s), nil
}

// A Principal is who was authenticated.
type Principal struct {
	Name string
	Via  string // how: ViaToken, ViaAnonymous, or another's word
	// Role is what it may do; empty for one whom others give permissions.
	Role Role
	// Permissions are what it may do without a role.
	Permissions []Permission
	// Namespaces, if not nil, are the only ones that the principal sees.
	Namespaces []string
	// RecordsIn, if not nil, are the only namespaces that it may record events of.
	RecordsIn []string
	// Attests is set for those who may vouch for identities that they pass on,
	// such as an API server's audit webhook.
	Attests bool
}

// CheckName holds the name of a principal against what the ledger can keep.
func CheckName(name string) error {
	switch {
	case name == "":
		return errors.New("empty")
	case name == "graven":
		return errors.New("graven is the ledger itself")
	case len(name) > event.MaxString:
		return fmt.Errorf("%d bytes, the limit is %d", len(name), event.MaxString)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		return errors.New("not UTF-8, or with control characters")
	}
	return nil
}

// Can reports whether p may act.
func (p *Principal) Can(perm Permission) bool {
	if p.Role == "" {
		return slices.Contains(p.Permissions, perm)
	}
	return slices.Contains(roles[p.Role], perm)
}

// MayRecord reports whether p, who may record, may record what was done to a
// resource in a namespace; empty is for resources in none.
func (p *Principal) MayRecord(namespace string) bool {
	return p.RecordsIn == nil || slices.Contains(p.RecordsIn, namespace)
}

// MayGrant reports whether p may give out or revoke a token: nobody gives more
// than they have, but one whose role is superadmin gives all.
func (p *Principal) MayGrant(t *Token) bool {
	switch {
	case !p.Can(ManageToken), p.Namespaces != nil, p.RecordsIn != nil:
		return false
	case p.Role == Superadmin:
		return true
	}
	for _, perm := range roles[t.Role] {
		if !p.Can(perm) {
			return false
		}
	}
	return p.Attests || !t.Attests
}

// Ways in which principals are authenticated.
const (
	ViaToken     = "token"
	ViaAnonymous = "anonymous" // not at all
)

// Anonymous is the principal of calls without credentials, where a role is
// given to them at all.
func Anonymous(r Role) *Principal { return &Principal{Name: "anonymous", Via: ViaAnonymous, Role: r} }
