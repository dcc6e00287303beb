// Package verify proves that inputs come from whom we trust. It is the station
// between resolving and assembling: documents in, evidence or a refusal out.
package verify

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"kiln"
	"kiln/internal/deb"
	"kiln/internal/pgp"
)

// Request says what an InRelease file must be.
type Request struct {
	// Archive is where it was taken from; its Fingerprints narrow the keyring and its Expired exception excuses a passed Valid-Until.
	Archive kiln.AptArchive
	// Suite is the name that was asked for; the file must carry it as Suite or Codename.
	Suite string
	// Keyring is the content of the keyring file, binary or armored.
	Keyring []byte
	// Now is the time to judge keys and dates by.
	Now time.Time
	// LastSeen is the signed date of the newest file accepted for this suite before, Unix seconds; 0 means none.
	LastSeen int64

	// fresh is the time to judge Valid-Until by; zero means Now.
	fresh time.Time
}

// Why an InRelease file is refused, to be tested with errors.Is. The key's
// reasons of package pgp (ErrKeyExpired, ErrNotAccepted ...) can be tested too.
var (
	ErrUnsigned = pgp.ErrUnsigned
	ErrNoGood   = errors.New("no signature counts")
	ErrSuite    = errors.New("it is for another suite")
	ErrDate     = errors.New("it has no usable date")
	ErrRollback = errors.New("it is older than one seen before")
	ErrExpired  = errors.New("it has expired")
	ErrNoHashes = errors.New("it has no SHA256 section")
)

// Refusal says which suite of which archive is refused, why, and what to do.
type Refusal struct {
	URI, Suite string // URI without credentials
	Err        error
	Remedy     string
}

func (r *Refusal) Error() string {
	text := fmt.Sprintf("refusing InRelease of %s from %s: %v", r.Suite, r.URI, r.Err)
	if r.Remedy != "" {
		text += "; " + r.Remedy
	}
	return text
}

// Unwrap returns the reason.
func (r *Refusal) Unwrap() error { return r.Err }

// InRelease verifies the content of an InRelease file by every rule for apt
// archives: exactly one clearsigned message, at least one signature by an
// expected key that is good now, the suite that was asked for, a date that is
// neither in the future nor older than seen before, not expired, and SHA-256
// hashes. The Release returned is read from the signed text only. A refusal is
// a *Refusal.
func InRelease(raw []byte, r Request) (*deb.Release, kiln.Evidence, error) {
	release, signed, err := signedRelease(raw, r)
	if err != nil {
		return nil, kiln.Evidence{}, r.refuse(err)
	}
	e := kiln.Evidence{
		Header:  kiln.NewHeader("Evidence"),
		Subject: kiln.Subject{Name: "InRelease of " + release.ID(r.Suite), Digest: kiln.DigestBytes(raw)},
		Type:    EvidenceType,
		Archive: release.ID(r.Suite), Suite: r.Suite,
		SignedAt: release.Date.Unix(),
		Checks:   []string{"exactly one clearsigned message with nothing around it"},
	}
	for _, s := range signed {
		if !slices.Contains(e.Signers, s.Primary) {
			e.Signers = append(e.Signers, s.Primary)
		}
		e.Checks = append(e.Checks, fmt.Sprintf("good signature of %s by key %s, which is neither expired nor revoked at %s",
			s.Time.Format(time.RFC3339), s.Key, r.Now.UTC().Format(time.RFC3339)))
	}
	for _, rule := range []func(*deb.Release, *kiln.Evidence) error{r.suite, r.date, r.validUntil, r.hashes} {
		if err := rule(release, &e); err != nil {
			return nil, kiln.Evidence{}, r.refuse(err)
		}
	}
	return release, e, nil
}

// EvidenceType is the type of evidence for what a signed apt archive names.
const EvidenceType = "openpgp-apt"

func signedRelease(raw []byte, r Request) (*deb.Release, []pgp.Signature, error) {
	message, err := pgp.Split(raw)
	if err != nil {
		return nil, nil, err
	}
	accept, err := fingerprints(r.Archive.Fingerprints)
	if err != nil {
		return nil, nil, err
	}
	keyring, err := pgp.ReadKeyring(r.Keyring)
	if err != nil {
		return nil, nil, err
	}
	good, bad := message.Verify(keyring, accept, r.Now)
	if len(good) == 0 {
		return nil, nil, fmt.Errorf("%w: %w", ErrNoGood, join(bad))
	}
	release, err := deb.ParseRelease(message.Text)
	return release, good, err
}

func fingerprints(list []string) ([]string, error) {
	var out []string
	for _, s := range list {
		f, err := pgp.ParseFingerprint(s)
		if err != nil {
			return nil, fmt.Errorf("expected fingerprints: %w", err)
		}
		out = append(out, f)
	}
	return out, nil
}

// suite compares the name asked for with the signed names.
func (r Request) suite(rel *deb.Release, e *kiln.Evidence) error {
	if r.Suite == "" || (r.Suite != rel.Suite && r.Suite != rel.Codename) {
		return fmt.Errorf("%w: asked for %q, signed are suite %q and codename %q", ErrSuite, r.Suite, rel.Suite, rel.Codename)
	}
	e.Checks = append(e.Checks, fmt.Sprintf("is for suite %q, codename %q, as asked for", rel.Suite, rel.Codename))
	return nil
}

func (r Request) date(rel *deb.Release, e *kiln.Evidence) error {
	switch {
	case rel.Date.IsZero():
		return fmt.Errorf("%w: Date is missing", ErrDate)
	case rel.Date.After(r.Now.Add(pgp.Skew)):
		return fmt.Errorf("%w: Date %s is in the future", ErrDate, stamp(rel.Date))
	case rel.Date.Unix() < r.LastSeen:
		return fmt.Errorf("%w: Date %s, seen before %s", ErrRollback, stamp(rel.Date), stamp(time.Unix(r.LastSeen, 0)))
	}
	check := "dated " + stamp(rel.Date) + ", not in the future"
	if r.LastSeen > 0 {
		check += ", not older than " + stamp(time.Unix(r.LastSeen, 0)) + " seen before"
	}
	e.Checks = append(e.Checks, check)
	return nil
}

func (r Request) validUntil(rel *deb.Release, e *kiln.Evidence) error {
	if rel.ValidUntil.IsZero() {
		e.Checks = append(e.Checks, "the archive sets no Valid-Until for this suite")
		return nil
	}
	e.ValidUntil = rel.ValidUntil.Unix()
	at := r.fresh
	if at.IsZero() {
		at = r.Now
	}
	if !at.After(rel.ValidUntil) {
		e.Checks = append(e.Checks, "valid until "+stamp(rel.ValidUntil))
		return nil
	}
	expired := fmt.Errorf("%w: Valid-Until %s", ErrExpired, stamp(rel.ValidUntil))
	x := r.Archive.Expired
	if x == nil {
		return expired
	}
	if err := x.Validate(); err != nil {
		return fmt.Errorf("%w, and the archive's exception for it does not hold: %w", expired, err)
	}
	if x.Expired(r.Now) {
		return fmt.Errorf("%w, and the archive's exception for it ended on %s", expired, x.Expires)
	}
	e.Exception = x
	e.Checks = append(e.Checks, fmt.Sprintf("Valid-Until %s has passed; excepted until %s by %s: %s", stamp(rel.ValidUntil), x.Expires, x.Owner, x.Reason))
	return nil
}

func (r Request) hashes(rel *deb.Release, e *kiln.Evidence) error {
	if len(rel.SHA256) == 0 {
		return ErrNoHashes
	}
	e.Checks = append(e.Checks, fmt.Sprintf("names %d files by SHA-256", len(rel.SHA256)))
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func (r Request) refuse(err error) error {
	return &Refusal{withoutSecrets(r.Archive.URI), r.Suite, err, remedy(err)}
}

// withoutSecrets prints a URI without user, password and query.
func withoutSecrets(uri string) string {
	u, err := url.Parse(uri)
	if err != nil || uri == "" {
		return "an archive"
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}

// remedies in the order in which they are looked for: the first that fits is the one to try.
var remedies = []struct {
	err  error
	text string
}{
	{ErrUnsigned, "fetch it again; a proxy or a login page may have answered instead of the archive"},
	{pgp.ErrNotAccepted, "check the fingerprint with the archive's owner by another way, then add it to the archive's fingerprints"},
	{pgp.ErrKeyExpired, "update the keyring (for Debian the package debian-archive-keyring)"},
	{pgp.ErrKeyRevoked, "do not use this archive until its owner signs with another key"},
	{pgp.ErrWeak, "ask the archive's owner for a signature with SHA-256 or better and a key of 2048 bits or more"},
	{pgp.ErrFuture, "check this machine's clock"},
	{pgp.ErrUnknownKey, "name the archive's own keyring file in the recipe, or update it"},
	{pgp.ErrBad, "fetch it again; if it stays so, the mirror or somebody on the way changes files: use another mirror"},
	{ErrSuite, "check uri and suite in the recipe; a mirror may serve another suite in its place"},
	{ErrRollback, "the mirror is behind or shows an old state on purpose; use another mirror or wait"},
	{ErrDate, "check this machine's clock"},
	{ErrExpired, "use a mirror that is up to date, or add an `expired` exception (owner, reason, expires) to the archive for a snapshot"},
	{ErrNoHashes, "the archive must publish SHA256 sums"},
}

func remedy(err error) string {
	for _, r := range remedies {
		if errors.Is(err, r.err) {
			return r.text
		}
	}
	return ""
}

// join is errors.Join on one line.
func join(errs []error) error { return &list{errs} }

type list struct{ errs []error }

func (l *list) Error() string {
	var texts []string
	for _, e := range l.errs {
		texts = append(texts, e.Error())
	}
	return strings.Join(texts, "; ")
}

func (l *list) Unwrap() []error { return l.errs }
