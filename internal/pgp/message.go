package pgp

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// MaxMessage bounds a clearsigned message, in bytes; the largest InRelease of a public archive has about 300,000.
const MaxMessage = 16 << 20

const (
	beginMessage   = "-----BEGIN PGP SIGNED MESSAGE-----"
	beginSignature = "-----BEGIN PGP SIGNATURE-----"
	endSignature   = "-----END PGP SIGNATURE-----"
	maxSignatures  = 32
)

// ErrUnsigned says that data is not exactly one clearsigned message.
var ErrUnsigned = errors.New("not one clearsigned message")

func unsigned(format string, a ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrUnsigned}, a...)...)
}

// Message is one clearsigned message whose signatures are yet to be verified.
type Message struct {
	// Text is the signed text, with "\n" at each line's end and without trailing blanks: exactly what the signatures cover.
	Text []byte

	canonical  []byte // what is hashed: lines joined by CR LF, without the last
	signatures []*packet.Signature
	unread     int // signatures of a kind that the library does not know
}

// Split takes a clearsigned message apart. It refuses everything that could make
// two readers see different texts: anything before or after the message, other
// armor headers than Hash, carriage returns, NUL, and lines that begin with a
// hyphen, escaped or not (no file of an archive needs one).
func Split(raw []byte) (*Message, error) {
	if len(raw) > MaxMessage {
		return nil, unsigned("larger than %d bytes", MaxMessage)
	}
	if i := bytes.IndexAny(raw, "\x00\r\v\f"); i >= 0 {
		return nil, unsigned("control character %#x at byte %d", raw[i], i)
	}
	rest, ok := bytes.CutPrefix(raw, []byte(beginMessage+"\n"))
	if !ok {
		return nil, unsigned("it does not begin with %q", beginMessage)
	}
	rest, err := skipHeaders(rest)
	if err != nil {
		return nil, err
	}
	m := &Message{}
	if rest, err = m.takeText(rest); err != nil {
		return nil, err
	}
	return m, m.takeSignatures(rest)
}

// skipHeaders passes the Hash headers and the empty line after them.
func skipHeaders(data []byte) ([]byte, error) {
	for {
		line, rest, ok := bytes.Cut(data, []byte("\n"))
		switch {
		case !ok:
			return nil, unsigned("it ends in its head")
		case len(line) == 0:
			return rest, nil
		case !bytes.HasPrefix(line, []byte("Hash: ")):
			return nil, unsigned("header %.40q in its head", line)
		}
		data = rest
	}
}

// takeText reads the signed lines and returns what begins with the signature.
func (m *Message) takeText(data []byte) ([]byte, error) {
	for first := true; ; first = false {
		line, rest, ok := bytes.Cut(data, []byte("\n"))
		if string(line) == beginSignature {
			return data, nil
		}
		if !ok {
			return nil, unsigned("it has no signature")
		}
		if bytes.HasPrefix(line, []byte("-")) {
			return nil, unsigned("line %.60q begins with a hyphen", line)
		}
		line = bytes.TrimRight(line, " \t")
		if !first {
			m.canonical = append(m.canonical, "\r\n"...)
		}
		m.canonical = append(m.canonical, line...)
		m.Text = append(append(m.Text, line...), '\n')
		data = rest
	}
}

func (m *Message) takeSignatures(data []byte) error {
	i := bytes.Index(data, []byte("\n"+endSignature))
	if i < 0 {
		return unsigned("its signature has no end; the file may be cut short")
	}
	end := i + 1 + len(endSignature)
	if after := data[end:]; len(after) > 0 && string(after) != "\n" {
		return unsigned("%d bytes follow the signature", len(after))
	}
	if bytes.Contains(data[len(beginSignature):i], []byte("\n-")) {
		return unsigned("a line of the signature begins with a hyphen")
	}
	block, err := armor.Decode(bytes.NewReader(data[:end]))
	if err != nil {
		return unsigned("reading its signature: %v", err)
	}
	packets := packet.NewReader(block.Body)
	for n := 0; ; n++ {
		p, err := packets.NextWithUnsupported()
		if err == io.EOF {
			break
		}
		if err != nil {
			return unsigned("reading its signature: %v", err)
		}
		if n >= maxSignatures {
			return unsigned("more than %d signatures", maxSignatures)
		}
		switch p := p.(type) {
		case *packet.Signature:
			m.signatures = append(m.signatures, p)
		case *packet.UnsupportedPacket:
			m.unread++
		default:
			return unsigned("its signature holds something else (%T)", p)
		}
	}
	if len(m.signatures) == 0 {
		return unsigned("no signature of a supported kind")
	}
	return nil
}
