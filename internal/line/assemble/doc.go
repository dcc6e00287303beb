// Package assemble makes a configured root file system from verified .debs,
// and puts into it what a recipe adds: accounts, files and steps.
//
// The fast way unpacks packages concurrently to their final places in Go and
// has dpkg configure them once, in the sandbox. Packages whose installation
// script must run before their files lie there go through dpkg itself. Which
// is which, and why the result is the same, stands in docs/design/assemble.md.
package assemble
