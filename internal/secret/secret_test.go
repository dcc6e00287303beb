package secret

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// letters makes text that looks random, the same on every run; secrets are put together here so that none stands in this file.
func letters(n int, alphabet string) string {
	r := rand.New(rand.NewPCG(uint64(n), uint64(len(alphabet))))
	var b strings.Builder
	for range n {
		b.WriteByte(alphabet[r.IntN(len(alphabet))])
	}
	return b.String()
}

const (
	base62 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	base32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	hexa   = "0123456789abcdef"
)

func pem(kind, separator string) string {
	return "-----BEGIN " + kind + "PRIVATE KEY-----" + separator + letters(64, base62) + separator + letters(64, base62) + separator + "-----END " + kind + "PRIVATE KEY-----"
}

// TestEveryRuleFindsItsSecret: each rule has at least one text that it finds, and the finding keeps the secret.
func TestEveryRuleFindsItsSecret(t *testing.T) {
	jwt := "eyJ" + letters(30, base62) + ".eyJ" + letters(60, base62) + "." + letters(43, base62)
	seen := map[string]bool{}
	for _, c := range []struct {
		rule, file, before, secret, after string
	}{
		{"private-key", "srv/key", "-----BEGIN OPENSSH PRIVATE KEY-----\n", letters(70, base62), "\n-----END"},
		{"private-key", "srv/key", "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,ABC\n\n", letters(64, base62), "\n"},
		{"private-key", "srv/account.json", `{"private_key": "-----BEGIN PRIVATE KEY-----\n`, letters(64, base62), `\n-----END`},
		{"private-key", "srv/key.asc", "-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: 1\n\n", letters(64, base62), "\n"},
		{"private-key", "usr/bin/tool", "\x7fELF\x00\x00-----BEGIN EC PRIVATE KEY-----\n", letters(64, base62), "\n"},
		{"putty-key", "srv/key.ppk", "PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\nPrivate-Lines: 1\n", letters(48, base62), "\n"},
		{"age-key", "srv/key.txt", "# created\n", "AGE-SECRET-KEY-1" + letters(58, "02346789ACDEFGHJKLMNPQRSTUVWXYZ"), "\n"},
		{"key-store", "etc/ssl/own.p12", "", "0\x82\x00", ""},
		{"aws-access-key", "srv/app.py", "key = '", "AKIA" + letters(16, base32), "'"},
		{"aws-secret-key", "srv/app.tf", "AWS_SECRET_ACCESS_KEY=", letters(40, base62), "\n"},
		{"google-api-key", "srv/app.js", `k="`, "AIza" + letters(35, base62), `"`},
		{"google-oauth-secret", "srv/a.json", `"`, "GOCSPX-" + letters(28, base62), `"`},
		{"azure-storage-key", "srv/a.ini", "AccountKey=", letters(86, base62) + "==", ";"},
		{"digitalocean-token", "srv/a", "t ", "dop_v1_" + letters(64, hexa), " "},
		{"vault-token", "srv/a", "VAULT ", "hvs." + letters(90, base62), "\n"},
		{"github-token", "srv/a.sh", "git clone https://", "ghp_" + letters(36, base62), "@github.com/x"},
		{"github-fine-token", "srv/a", "", "github_pat_" + letters(22, base62) + "_" + letters(59, base62), "\n"},
		{"gitlab-token", "srv/a", "", "glpat-" + letters(20, base62), "\n"},
		{"npm-token", "srv/a", "x ", "npm_" + letters(36, base62), "\n"},
		{"pypi-token", "srv/a", "", "pypi-Ag" + letters(80, base62), "\n"},
		{"docker-token", "srv/a", "", "dckr_pat_" + letters(27, base62), "\n"},
		{"rubygems-key", "srv/a", "", "rubygems_" + letters(48, hexa), "\n"},
		{"crates-token", "root/.cargo/credentials.toml", "token = \"", "cio" + letters(32, base62), "\"\n"},
		{"huggingface-token", "srv/a", "", "hf_" + letters(34, base62[:52]), "\n"},
		{"slack-token", "srv/a", "", "xoxb-123456789012-" + letters(30, base62), "\n"},
		{"slack-webhook", "srv/a", "https://hooks.slack.com/services/", "T12345678/B12345678/" + letters(24, base62), "\n"},
		{"stripe-key", "srv/a", "", "sk_live_" + letters(24, base62), "\n"},
		{"sendgrid-key", "srv/a", "", "SG." + letters(22, base62) + "." + letters(43, base62), "\n"},
		{"telegram-token", "srv/a", "", "123456789:AA" + letters(33, base62), "\n"},
		{"grafana-token", "srv/a", "", "glsa_" + letters(32, base62) + "_" + letters(8, hexa), "\n"},
		{"signed-token", "srv/a", "Bearer ", jwt, "\n"},
		{"address-password", "srv/app.conf", "db=postgres://app:", "Tr0ub4dor", "@db:5432/app\n"},
		{"netrc", "root/.netrc", "machine m login l password ", "hunter22", "\n"},
		{"npmrc", "root/.npmrc", "//registry.example.com/:_authToken=", "aaaabbbb-cccc", "\n"},
		{"pypirc", "root/.pypirc", "[a]\nusername: x\npassword: ", "hunter22", "\n"},
		{"pip-conf", "etc/pip.conf", "index-url = https://me:", "hunter22", "@registry.example.com/simple\n"},
		{"docker-config", "root/.docker/config.json", `{"auths":{"registry.example.com":{"auth":"`, letters(20, base62), `"}}}`},
		{"git-credentials", "root/.git-credentials", "https://me:", "hunter22", "@git.example.com\n"},
		{"git-credentials", "app/.git/config", "url = https://me:", "hunter22", "@git.example.com/x.git\n"},
		{"pgpass", "root/.pgpass", "db:5432:*:app:", "hunter22", "\n"},
		{"my-cnf", "root/.my.cnf", "[client]\npassword=", "hunter22", "\n"},
		{"vault-token-file", "root/.vault-token", "", "abcdef", ""},
		{"aws-credentials", "home/ann/.aws/credentials", "[default]\naws_session_token = ", letters(100, base62), "\n"},
		{"kube-config", "root/.kube/config", "users:\n- user:\n    client-key-data: ", letters(100, base62), "\n"},
		{"gcloud-credentials", "root/.config/gcloud/application_default_credentials.json", "", `{"refresh_token":1}`, ""},
		{"terraform-credentials", "root/.terraformrc", "token = \"", "abcdefgh.atlas", "\"\n"},
		{"gem-credentials", "root/.gem/credentials", "---\n:rubygems: ", letters(40, hexa), "\n"},
		{"s3cfg", "root/.s3cfg", "secret_key = ", letters(40, base62), "\n"},
		{"password-file", "etc/nginx/.htpasswd", "ann:", "$apr1$" + letters(8, base62) + "$" + letters(22, base62), "\n"},
		{"shadow", "etc/shadow", "root:", "$6$salt$" + letters(60, base62), ":19000:::::\n"},
		{"basic-authorization", "srv/a.sh", "curl -H 'Authorization: Basic ", letters(30, base62) + "==", "'"},
		{"variable", "srv/.env", "# settings\nDB_PASSWORD=", "hunter22", "\n"},
	} {
		seen[c.rule] = true
		data := []byte("first line\n" + c.before + c.secret + c.after)
		found, err := Bytes(c.file, data)
		if err != nil {
			t.Fatal(err)
		}
		if len(found) != 1 || found[0].Rule != c.rule {
			t.Errorf("%s in %s: found %v", c.rule, c.file, found)
			continue
		}
		shown := found[0].String()
		if len(c.secret) > 8 && strings.Contains(shown, c.secret[:5]) || len(found[0].Masked) > 7 {
			t.Errorf("%s: the finding shows the secret: %s", c.rule, shown)
		}
	}
	for _, r := range compiled().rules {
		if !seen[r.ID] {
			t.Errorf("rule %s has no case", r.ID)
		}
	}
}

func TestWhatIsNoSecret(t *testing.T) {
	for _, c := range []struct{ file, text string }{
		{"usr/lib/libcrypto.so", "\x7fELF\x00-----BEGIN PRIVATE KEY-----\x00-----END PRIVATE KEY-----\x00-----BEGIN RSA PRIVATE KEY-----"},
		{"srv/key.go", "const begin = \"-----BEGIN PRIVATE KEY-----\"\nvar x = 1\n"},
		{"srv/cert.pem", "-----BEGIN CERTIFICATE-----\n" + letters(64, base62) + "\n"},
		{"srv/key.pub", "-----BEGIN PUBLIC KEY-----\n" + letters(64, base62) + "\n"},
		{"srv/key.pem", "-----BEGIN PRIVATE KEY-----\n" + strings.Repeat("A", 64) + "\n"},
		{"srv/a", "AKIAIOSFODNN7EXAMPLE"},
		{"srv/a", "AKIA" + strings.Repeat("A", 16)},
		{"srv/a", "ghp_" + strings.Repeat("x", 36)},
		{"srv/a", "xAKIA" + letters(16, base32)},
		{"srv/a.conf", "url = postgres://user:password@localhost/db\nurl2 = http://app:${PASSWORD}@db/\nurl3=https://x:%s@y\n"},
		{"srv/a.conf", "url = http://me:hunter22@proxy.example.com:3128\n"},
		{"usr/share/doc/a/README", "postgres://app:hunter22@db/app"},
		{"srv/README.md", "postgres://app:hunter22@db/app"},
		{"root/.npmrc", "//registry.example.com/:_authToken=${NPM_TOKEN}\n"},
		{"srv/.env.example", "DB_PASSWORD=hunter22\n"},
		{"srv/.env", "DB_PASSWORD=\nDB_PASSWORD_FILE=/run/secrets/db\nALLOW_EMPTY_PASSWORD=yes\nTOKEN=$OTHER\nPASSWORD_MIN_LENGTH=12\nAPP_SECRET=<your secret>\n"},
		{"etc/shadow", "root:*:19000:0:99999:7:::\nann:!:1::::::\nbob::1::::::\n"},
		{"etc/nginx/.htpasswd", "# users: name:hash\n"},
		{"root/.vault-token", " \n"},
		{"srv/times", "12:34:56 http://host:8080/a@b mailto:ann@example.com"},
		{"", ""},
	} {
		if found, err := Bytes(c.file, []byte(c.text)); len(found) > 0 || err != nil {
			t.Errorf("%s %q: found %v", c.file, c.text, found)
		}
	}
}

func TestVariablesAndCommands(t *testing.T) {
	for _, c := range []struct{ name, value, want string }{
		{"DB_PASSWORD", "x", "value of DB_PASSWORD ***"},
		{"API_KEY", "abcdefghijklmnop", "value of API_KEY abcd***"},
		{"DB_PASSWORD_FILE", "/run/secrets/db", ""},
		{"GPG_KEY", letters(40, hexa), ""},
		{"MYSQL_ALLOW_EMPTY_PASSWORD", "yes", ""},
		{"DATABASE_URL", "postgres://app:password@db/app", "password in an address pa***"},
		{"HOME", "/root", ""},
		{"CERT", pem("RSA ", "\n"), "private key " + letters(64, base62)[:4] + "***"},
	} {
		f, ok := Variable(c.name, c.value)
		got := strings.TrimSuffix(f.String(), " (line 1)")
		if !ok {
			got = ""
		}
		if got != c.want {
			t.Errorf("%s=%s: %q, want %q", c.name, c.value, got, c.want)
		}
	}
	for _, c := range []struct{ text, want string }{
		{"/bin/sh -c #(nop)  ENV API_TOKEN=s3cr3tvalue", "value of API_TOKEN s3***"},
		{"RUN |1 NPM_TOKEN=abcdefgh /bin/sh -c npm ci # buildkit", "value of NPM_TOKEN ab***"},
		{"ARG DB_PASSWORD=hunter22", "value of DB_PASSWORD hu***"},
		{"RUN mysql --password=hunter22 -e x", "password given to a command hu***"},
		{"RUN tool --api-token hunter22", "password given to a command hu***"},
		{"RUN curl -u ann:hunter22 https://x.example.org", "password given to a command hu***"},
		{"RUN echo 'root:hunter22' | chpasswd", "password set for an account hu***"},
		{"RUN echo machine m login l password hunter22 > .netrc", "password of .netrc hu***"},
		{"RUN git clone https://ann:hunter22@git.invalid.org/x", "password in an address hu***"},
		{"RUN build --password=$PASSWORD --token \"$TOKEN\" --secret id=npm", ""},
		{"RUN --mount=type=secret,id=npmrc npm ci", ""},
		{"RUN curl -u \"$USER:$PASS\" x; TOKEN=$(cat /run/secrets/t); echo PASSWORD=${P}", ""},
		{"CMD [\"nginx\" \"-g\" \"daemon off;\"]", ""},
	} {
		var got []string
		for _, f := range Command(c.text) {
			got = append(got, strings.TrimSuffix(f.String(), " (line 1)"))
		}
		if strings.Join(got, "|") != c.want {
			t.Errorf("%s: %q, want %q", c.text, got, c.want)
		}
	}
}

func TestManySecretsAndLinesAndHugeFiles(t *testing.T) {
	one := func(i int) string {
		return "AKIA" + strings.ToUpper(letters(16, base32))[:15] + string(base32[i%len(base32)])
	}
	two, _ := Bytes("srv/a", []byte("x\n\nfirst "+one(1)+" second "+one(2)+"\n"))
	if len(two) != 2 || two[0].Line != 3 || two[1].Line != 3 {
		t.Errorf("two in one line: %v", two)
	}
	var many bytes.Buffer
	for i := range 1000 {
		fmt.Fprintf(&many, "%s\n", "ghp_"+letters(36+i%50, base62))
	}
	if found, _ := Bytes("srv/a", many.Bytes()); len(found) != maxFindings {
		t.Errorf("%d findings of a file of secrets, want %d", len(found), maxFindings)
	}
	// A file without end is read no further than MaxFile.
	endless := &counter{text: []byte("://:@" + strings.Repeat("eyJ-----BEGIN PRIVATE KEY-----ghp_", 30))}
	if _, err := File("srv/endless", endless); !errors.Is(err, ErrTooDense) || endless.n > MaxFile+1<<20 {
		t.Errorf("an endless file: %d bytes read, %v", endless.n, err)
	}
	if _, err := File("srv/broken", &counter{err: errors.New("no disk")}); err == nil {
		t.Error("an error of reading is lost")
	}
}

// counter repeats a text for ever, or fails.
type counter struct {
	text []byte
	n    int
	err  error
}

func (c *counter) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n := copy(p, c.text)
	c.n += n
	return n, nil
}

func TestRulesThatAreMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"- {id: a, words: [xx], match: x}":                        "title",
		"- {id: a, title: a, match: x}":                           "words",
		"- {id: a, title: a, words: [x], match: x}":               "two characters",
		"- {id: a, title: a, words: [xx], match: (}":              "missing",
		"- {id: a, title: a, words: [xx]}":                        "expression",
		"- {id: a, title: a, whole: true}":                        "paths",
		"- {id: a, title: a, words: [xx], match: x, paths: ['[']": "",
		"- {id: a, title: a, words: [xx], match: x, unknown: 1}":  "unknown",
	} {
		if _, err := compile([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// FuzzBytes: nothing that a file or command holds makes a failure, and no finding shows more than four characters.
func FuzzBytes(f *testing.F) {
	f.Add(".env", "A_TOKEN=\xff\xfe\x80\x81abcdefghijklmnop\n")
	f.Add("root/.netrc", "password \xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4")
	f.Add("x", pem("", "\\n"))
	f.Fuzz(func(t *testing.T, file, text string) {
		inFile, _ := Bytes(file, []byte(text))
		for _, found := range append(inFile, Command(text)...) {
			if len(found.Masked) > 7 || found.Line < 1 {
				t.Errorf("%+v", found)
			}
		}
	})
}

func BenchmarkBytes(b *testing.B) {
	data := []byte(strings.Repeat("func (a *b) walk(dir string) error { return fmt.Errorf(\"ghost %s sk: %w\", dir, err) } // eyes://\n", 80_000))
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if found, err := Bytes("srv/a.go", data); len(found) > 0 || err != nil {
			b.Fatal("found something", err)
		}
	}
}
