// Package kiln holds the documents that travel along the line: the nouns of an
// image factory. It imports the standard library only and does no I/O.
//
// A [Recipe] says what is wanted. Resolving it gives a [Lock], every input by
// digest. Verifying gives [Evidence], assembling a tree, hardening [Outcome]s,
// trying it a [Trial], scanning a [Bill], packing an [Artifact], attesting
// [Statement]s, deciding a [Verdict], publishing a [Release]. A [Build] is the
// record of one journey; an [Event] is one line of its story.
//
// Stored documents are canonical JSON (RFC 8785) with apiVersion and kind:
// encoding what was decoded gives the same bytes, so a document's [Digest]
// names it.
package kiln
