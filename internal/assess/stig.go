package assess

// STIG is DISA's own document of one benchmark.
type STIG struct{}
