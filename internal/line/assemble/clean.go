package assemble

func Clean(dir string) error { return nil }
