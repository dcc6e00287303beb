package assess

import (
	"fmt"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	"kiln"
	"kiln/internal/report"
)

// maxText bounds each text of a result, in bytes.
const maxText = 16 << 10

// clip cuts a long text between two characters and says so.
func clip(s string) string { return clipAt(s, maxText) }

func clipAt(s string, most int) string {
	if len(s) <= most {
		return s
	}
	note := fmt.Sprintf("… (cut, %d bytes in all)", len(s))
	cut := max(most-len(note), 0)
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + note
}

// harmlessText makes one string safe to write.
func harmlessText(s string) string { return clip(report.VisibleText(s)) }

// harmless returns a deep copy of a document in which every string is safe to write.
func harmless[T any](doc T) T {
	in := reflect.ValueOf(&doc).Elem()
	out := reflect.New(in.Type()).Elem()
	copyHarmless(out, in)
	return out.Interface().(T)
}

// copyHarmless knows what documents are made of; anything else is copied as it is.
func copyHarmless(out, in reflect.Value) {
	switch in.Kind() {
	case reflect.String:
		out.SetString(harmlessText(in.String()))
	case reflect.Struct:
		out.Set(in)
		for i := range in.NumField() {
			if out.Type().Field(i).IsExported() {
				copyHarmless(out.Field(i), in.Field(i))
			}
		}
	case reflect.Pointer, reflect.Interface:
		if !in.IsNil() {
			e := reflect.New(in.Elem().Type()).Elem()
			copyHarmless(e, in.Elem())
			if in.Kind() == reflect.Pointer {
				e = e.Addr()
			}
			out.Set(e)
		}
	case reflect.Slice:
		if !in.IsNil() {
			out.Set(reflect.MakeSlice(in.Type(), in.Len(), in.Len()))
			for i := range in.Len() {
				copyHarmless(out.Index(i), in.Index(i))
			}
		}
	case reflect.Map:
		if !in.IsNil() {
			out.Set(reflect.MakeMapWithSize(in.Type(), in.Len()))
			for _, k := range in.MapKeys() {
				key, value := reflect.New(k.Type()).Elem(), reflect.New(in.Type().Elem()).Elem()
				copyHarmless(key, k)
				copyHarmless(value, in.MapIndex(k))
				out.SetMapIndex(key, value)
			}
		}
	default:
		out.Set(in)
	}
}

// uuidSpace is the name space of the identifiers that are derived from content.
var uuidSpace = uuid.NewSHA1(uuid.NameSpaceOID, []byte("kiln/assessment/v1"))

// id derives an identifier from the whole assessment and the parts that name a thing in it.
func (v *view) id(parts ...string) string {
	return uuid.NewSHA1(uuidSpace, []byte(string(v.seed)+"\x00"+strings.Join(parts, "\x00"))).String()
}

// stateWord is a state as people say it.
func stateWord(state string) string {
	switch state {
	case kiln.Satisfied:
		return "met"
	case kiln.NotSatisfied:
		return "not met"
	case kiln.NotApplicable:
		return "not applicable"
	case kiln.Waived:
		return "not met, waived"
	}
	return "unknown"
}

// wanted says what the objective asks for.
func (o outcome) wanted() string {
	if o.Wanted != "" {
		return o.Wanted
	}
	for _, v := range o.control.Variants {
		if v.Title != "" && (o.Variant == "" || o.Variant == v.ID) {
			return v.Title
		}
	}
	return o.Title
}

// evidence says how the state was judged.
func (o outcome) evidence() string {
	switch o.Effective {
	case "":
		return ""
	case "file":
		return "files, as configured"
	}
	return "the effective value, asked of " + o.Effective
}

// gives says what the variant that holds gives up against stricter ones.
func (o outcome) gives() string {
	for _, v := range o.control.Variants {
		if v.ID == o.Variant && o.Variant != "" {
			return v.Gives
		}
	}
	return ""
}

// reason says in one sentence why the state is what it is. It is never empty.
func (o outcome) reason() string {
	switch {
	case o.State == kiln.Waived && o.Waiver != nil:
		return "Not met, by an exception: " + exception(o.Waiver)
	case o.Reason != "":
		return o.Reason
	case o.State == kiln.NotSatisfied && o.Observed != "":
		return "Observed: " + o.Observed
	case o.State == kiln.NotSatisfied:
		return "The objective does not hold."
	case o.State == kiln.Unknown:
		return "The state could not be judged, and no reason was recorded."
	case o.State == kiln.NotApplicable:
		return "What the objective is about is not there."
	}
	return "The objective holds."
}

func exception(w *kiln.Waiver) string {
	s := fmt.Sprintf("%s (owner %s, last day %s", w.Reason, w.Owner, w.Expires)
	if w.ID != "" {
		s += ", id " + w.ID
	}
	if w.ApprovedBy != "" {
		s += ", approved by " + w.ApprovedBy
	}
	return s + ")"
}

// detail is everything that is known about one outcome, a line each.
func (o outcome) detail() string {
	var b strings.Builder
	line := func(label, text string) {
		if text != "" {
			fmt.Fprintf(&b, "%s: %s\n", label, text)
		}
	}
	line("Objective", o.Objective)
	line("State", stateWord(o.State))
	line("Wanted", o.wanted())
	line("Observed", o.Observed)
	line("Judged by", o.evidence())
	if o.State == kiln.Satisfied {
		line("Met in the form", o.Variant)
		line("Which gives up", o.gives())
	}
	line("Reason", o.Reason)
	if o.Waiver != nil {
		line("Exception", exception(o.Waiver))
	}
	return strings.TrimSuffix(b.String(), "\n")
}
