package backup

import "context"

// Killed restores as a process does that is killed where it fails: nothing is
// swept up.
func Killed(ctx context.Context, o RestoreOptions) error {
	o.unswept = true
	_, err := Restore(ctx, o)
	return err
}
