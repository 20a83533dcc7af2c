package capture

import (
	"strings"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/interpreter"
)

// maxText bounds a text that an expression makes of others, in bytes. What it costs is
// known only once it is there.
const maxText = 4 << 20

// bounded has replace make no text that is longer than maxText.
func bounded(i interpreter.InterpretableV2) (interpreter.InterpretableV2, error) {
	if call, ok := i.(interpreter.InterpretableCall); ok && call.Function() == "replace" {
		return replacing{call}, nil
	}
	return i, nil
}

// replacing is a call of replace: text.replace(old, new) or text.replace(old, new, n).
type replacing struct{ interpreter.InterpretableCall }

// Exec implements interpreter.InterpretableV2.
func (r replacing) Exec(frame *interpreter.ExecutionFrame) ref.Val {
	var text [3]string
	most := -1
	for i, arg := range r.Args() {
		v := arg.Exec(frame)
		switch v := v.(type) {
		case types.String:
			if i < len(text) {
				text[i] = string(v)
				continue
			}
		case types.Int:
			if i == len(text) {
				most = int(v)
				continue
			}
		}
		if types.IsUnknownOrError(v) {
			return v
		}
		return types.MaybeNoSuchOverloadErr(v)
	}
	n := strings.Count(text[0], text[1])
	if most >= 0 {
		n = min(n, most)
	}
	if len(text[0])+n*(len(text[2])-len(text[1])) > maxText {
		return types.NewErr("replace makes more than %d bytes", maxText)
	}
	return types.String(strings.Replace(text[0], text[1], text[2], most))
}
