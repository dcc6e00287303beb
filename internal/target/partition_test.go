package target

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
)

// disk is an empty one of n sectors on which parts are written.
func disk(n int) []byte { return make([]byte, n*sector) }

func ext4At(d []byte, first int) {
	copy(d[first*sector+1024+0x38:], "\x53\xef")
	copy(d[first*sector+1024+0x68:], "\x01\x23\x45\x67\x89\xab\xcd\xef\x01\x23\x45\x67\x89\xab\xcd\xef")
	copy(d[first*sector+1024+0x78:], "root")
}

func withGPT(d []byte, count, each uint32, entries ...[2]uint64) []byte {
	le := binary.LittleEndian
	copy(d[510:], "\x55\xaa")
	head := d[sector:]
	copy(head, "EFI PART")
	le.PutUint64(head[72:], 2)
	le.PutUint32(head[80:], count)
	le.PutUint32(head[84:], each)
	for i, e := range entries {
		at := d[2*sector+i*int(each):]
		copy(at, "linux filesystem")
		copy(at[16:], "\x04\x03\x02\x01\x06\x05\x08\x07\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10")
		le.PutUint64(at[32:], e[0])
		le.PutUint64(at[40:], e[1])
	}
	return d
}

func TestPartitionsAreFoundAndNamed(t *testing.T) {
	d := withGPT(disk(400), 128, 128, [2]uint64{40, 99}, [2]uint64{100, 399})
	ext4At(d, 100)
	list, err := partitions(bytes.NewReader(d), int64(len(d)))
	if err != nil || len(list) != 2 {
		t.Fatal(list, err)
	}
	p := list[1]
	if p.kind != "ext4" || p.offset != 100*sector || p.size != 300*sector || list[0].kind != "" {
		t.Errorf("%+v", list)
	}
	for device, mine := range map[string]bool{
		"UUID=01234567-89AB-cdef-0123-456789abcdef": true, "LABEL=root": true, "PARTUUID=01020304-0506-0708-090a-0b0c0d0e0f10": true,
		"UUID=": false, "LABEL=": false, "/dev/sda2": false, "UUID=01234567": false,
	} {
		if p.is(device) != mine {
			t.Errorf("%s names it: %v", device, !mine)
		}
	}

	d = disk(200)
	copy(d[440:], "\x78\x56\x34\x12")
	copy(d[446+16:], "\x00\x00\x00\x00\x83\x00\x00\x00\x64\x00\x00\x00\x64\x00\x00\x00")
	copy(d[510:], "\x55\xaa")
	list, err = partitions(bytes.NewReader(d), int64(len(d)))
	if err != nil || len(list) != 1 || list[0].number != 2 || !list[0].is("PARTUUID=12345678-02") || list[0].offset != 100*sector {
		t.Errorf("%+v %v", list, err)
	}

	d = disk(20)
	ext4At(d, 0)
	if list, err = partitions(bytes.NewReader(d), int64(len(d))); err != nil || len(list) != 1 || list[0].number != 0 || list[0].kind != "ext4" {
		t.Errorf("%+v %v", list, err)
	}
}

func TestHostilePartitionTablesAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		disk []byte
		says string
	}{
		"nothing":               {disk(100), "no partitions"},
		"behind the end":        {withGPT(disk(100), 128, 128, [2]uint64{50, 5000}), "partition 1 lies outside"},
		"end before begin":      {withGPT(disk(100), 128, 128, [2]uint64{60, 50}), "partition 1 lies outside"},
		"far away":              {withGPT(disk(100), 128, 128, [2]uint64{1 << 60, 1 << 61}), "partition 1 lies outside"},
		"a billion partitions":  {withGPT(disk(100), 1<<30, 128), "no real one"},
		"entries of a gigabyte": {withGPT(disk(100), 1, 1<<30), "no real one"},
		"entries of nothing":    {withGPT(disk(100), 4, 0), "no real one"},
		"a table that is cut":   {withGPT(disk(4), 128, 128), "reading the partition table"},
	} {
		if _, err := partitions(bytes.NewReader(c.disk), int64(len(c.disk))); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatIsAnotherMachinesOrTheKernels(t *testing.T) {
	if foreign("ext4") != "" || foreign("nfs4") == "" || foreign("proc") == "" || foreign("tmpfs") != "" {
		t.Error("what is another machine's or the kernel's is not told apart")
	}
}
