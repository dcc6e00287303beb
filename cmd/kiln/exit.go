package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"kiln"
)

// The contract of exit codes.
const (
	exitBroken  = 1
	exitMisuse  = 2
	exitRefused = 3
)

// fail prints an error with its hints and returns the exit code.
func (a *app) fail(err error) int {
	fmt.Fprintln(a.err, "kiln: "+err.Error())
	for _, h := range hints(err) {
		fmt.Fprintln(a.err, "hint: "+h)
	}
	switch {
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(a.err, "hint: what was finished is kept; the same command continues there")
		return exitBroken
	case errors.Is(err, kiln.ErrRefused):
		return exitRefused
	case errors.Is(err, kiln.ErrMisuse), isUsage(err):
		return exitMisuse
	}
	return exitBroken
}

// isUsage recognises the command library's own complaints, which have no type.
func isUsage(err error) bool {
	s := err.Error()
	return strings.HasPrefix(s, "unknown command") || strings.HasPrefix(s, "required flag") || strings.HasPrefix(s, "if any flags in the group")
}

// hints collects what the error's layers advise, outermost first.
func hints(err error) []string {
	var list []string
	var walk func(error)
	walk = func(err error) {
		if h, ok := err.(*kiln.Hinted); ok {
			list = append(list, h.Hint)
		}
		switch u := err.(type) {
		case interface{ Unwrap() error }:
			if inner := u.Unwrap(); inner != nil {
				walk(inner)
			}
		case interface{ Unwrap() []error }:
			for _, inner := range u.Unwrap() {
				walk(inner)
			}
		}
	}
	walk(err)
	return list
}
