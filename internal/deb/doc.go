// Package deb reads the formats of the Debian world: control files, versions,
// relations between packages, archive indexes, the package database of an
// installed system, and the .deb container. It trusts nothing it reads: every
// reader is bounded and a malformed stanza is an error, never a guess.
package deb
