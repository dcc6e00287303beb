// Package line runs the stations of the factory in their order. It is the one
// page that knows the flow: stations know only their own documents, and what
// they need from outside is handed to them here.
package line

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"kiln"
	"kiln/internal/blob/dir"
	"kiln/internal/fetch"
	"kiln/internal/image"
	"kiln/internal/keys"
	"kiln/internal/line/admit"
	"kiln/internal/workspace"
)

// Records is what the line needs of the record store.
type Records interface {
	Seen(ctx context.Context, archive string) (int64, error)
	SetSeen(ctx context.Context, archive string, date int64) error
	Put(ctx context.Context, r *kiln.Release) error
	Current(ctx context.Context, name, channel string) (*kiln.Release, error)
	PutBuild(ctx context.Context, b *kiln.Build, time int64) error
	Build(ctx context.Context, idOrDigest string) (*kiln.Build, error)
}

// Line holds what the stations need from outside.
type Line struct {
	Dir     string // state directory
	Blobs   *dir.Store
	Records Records
	Fetch   *fetch.Client
	Layout  *image.Layout // the local store of images
	Key     func(role string) (*keys.Key, error)
	// Public gives a role's public key without opening the private one, which is slow on purpose.
	Public func(role string) (*ecdsa.PublicKey, error)
	Now    func() time.Time
	// Program is the digest of the running executable: another program may give other results.
	Program kiln.Digest
	// Version is what the program calls itself.
	Version string
	Report  kiln.Report
}

// Request is one build to make.
type Request struct {
	Recipe *kiln.Recipe
	// Lock fixes every input; nil resolves anew.
	Lock    *kiln.Lock
	Policy  *admit.Policy
	Channel string
	// Until stops after that station; empty goes through to publish.
	Until string
}

// journey is one build on its way.
type journey struct {
	*Line
	req   Request
	build *kiln.Build
	memo  memo
	trees trees
	work  *workspace.Space
	at    kiln.Digest // key of the tree that lies in the workspace
	dir   string      // where it lies

	assembled, hardened treeNote
	proven              bool // every input was checked in this run
	worked              bool // a station did something
}

type station struct {
	name string
	run  func(*journey, context.Context) (note string, cached bool, err error)
}

// stations is the line.
var stations = []station{
	{kiln.StationResolve, (*journey).resolve},
	{kiln.StationVerify, (*journey).verify},
	{kiln.StationAssemble, (*journey).assemble},
	{kiln.StationHarden, (*journey).harden},
	{kiln.StationTrial, (*journey).trial},
	{kiln.StationScan, (*journey).scan},
	{kiln.StationPack, (*journey).pack},
	{kiln.StationAttest, (*journey).attest},
	{kiln.StationAdmit, (*journey).admit},
	{kiln.StationPublish, (*journey).publish},
}

// StationError says at which station a build stopped.
type StationError struct {
	Station string
	Err     error
}

func (e *StationError) Error() string { return e.Station + ": " + e.Err.Error() }
func (e *StationError) Unwrap() error { return e.Err }

// Run takes the recipe along the line. The build is returned even where a
// station failed: it holds what was done until then. Results of stations are
// kept; only those whose inputs changed run again.
func (l *Line) Run(ctx context.Context, req Request) (*kiln.Build, error) {
	if err := checkUntil(req.Until); err != nil {
		return nil, err
	}
	if req.Channel != "" && !kiln.ValidName(req.Channel) {
		return nil, kiln.Misuse(fmt.Errorf("%q cannot name a channel: use a-z 0-9 . _ - and begin and end with a letter or number", req.Channel))
	}
	b, err := l.travel(ctx, req)
	for range 2 { // assemble and harden keep one each
		if !errors.Is(err, errDamagedTree) {
			break
		}
		l.Report.Warn("", err.Error()+"; it was dropped and is made again")
		b, err = l.travel(ctx, req)
	}
	return b, err
}

func (l *Line) travel(ctx context.Context, req Request) (*kiln.Build, error) {
	j, err := l.start(req)
	if err != nil {
		return nil, err
	}
	defer j.close()
	for _, s := range stations {
		if err := j.visit(ctx, s); err != nil {
			return j.build, errors.Join(&StationError{s.name, err}, j.keep(context.WithoutCancel(ctx), err))
		}
		if s.name == req.Until {
			break
		}
	}
	j.build.Unchanged = !j.worked
	return j.build, j.keep(context.WithoutCancel(ctx), nil) // the channel has moved: no time to stop
}

func (l *Line) start(req Request) (*journey, error) {
	digest, err := kiln.DigestOf(req.Recipe)
	if err != nil {
		return nil, fmt.Errorf("naming the recipe: %w", err)
	}
	id := make([]byte, 6)
	if _, err := rand.Read(id); err != nil {
		return nil, err
	}
	b := &kiln.Build{Header: kiln.NewHeader("Build"), ID: hex.EncodeToString(id), Name: req.Recipe.Name, Recipe: digest}
	return &journey{
		Line: l, req: req, build: b,
		memo:  memo{l.path("results")},
		trees: trees{l.path("cache", "trees")},
	}, nil
}

func (j *journey) close() {
	if j.work == nil {
		return
	}
	if err := j.work.Close(); err != nil {
		j.Report.Warn("", err.Error())
	}
}

// visit runs one station and writes down how it went.
func (j *journey) visit(ctx context.Context, s station) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	begin := time.Now()
	j.emit(s.name, kiln.EventStart, "", 0)
	note, cached, err := s.run(j, ctx)
	millis := time.Since(begin).Milliseconds()
	run := kiln.StationRun{Station: s.name, Result: kiln.EventDone, Millis: millis, Note: note}
	switch {
	case err != nil:
		run.Result, run.Note = kiln.EventFailed, err.Error()
	case cached:
		run.Result = kiln.EventCached
	default:
		j.worked = true
	}
	j.build.Stations = append(j.build.Stations, run)
	j.emit(s.name, run.Result, run.Note, millis)
	return err
}

func (j *journey) emit(station, kind, message string, millis int64) {
	j.Report.Emit(kiln.Event{Build: j.build.ID, Station: station, Type: kind, Message: message, Millis: millis})
}

// remember answers from a kept result of the same inputs, or runs work and
// keeps what it leaves in out.
func remember[T any](j *journey, station string, inputs []any, out *T, work func() error) (cached bool, key kiln.Digest, err error) {
	key, err = kiln.DigestOf(append([]any{station, j.Program}, inputs...))
	if err != nil {
		return false, "", fmt.Errorf("naming the inputs: %w", err)
	}
	if ok, err := j.memo.get(station, key, out); err != nil || ok {
		return ok, key, err
	}
	if err := work(); err != nil {
		return false, key, err
	}
	return false, key, j.memo.put(station, key, out)
}
