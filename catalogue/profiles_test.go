package catalogue

import (
	"strings"
	"testing"
)

// The objectives of the container profiles: objectives of machines never come into them by themselves.
const (
	baselineIDs = `
account-empty-password account-shadowed account-zero-uid account-root-group group-zero-gid account-root-locked account-locked/all
account-no-shell/system account-unique-name account-unique-uid group-unique-name group-unique-gid account-group-exists group-shadow-empty
account-changed-in-past account-homes mode-passwd mode-passwd-backup mode-group mode-group-backup mode-shadow mode-shadow-backup mode-gshadow
mode-gshadow-backup mode-shells mode-opasswd mode-motd mode-issue mode-issue-net mode-crontab mode-cron-hourly mode-cron-daily mode-cron-weekly
mode-cron-monthly mode-cron-d mode-cron-yearly mode-cron-allow setuid-cleared/requested setgid-cleared/requested setid-unpackaged
capabilities-cleared/requested world-writable-files world-writable-directories owned-files programs-protected libraries-protected
configuration-protected root-home-private device-files-absent log-files-private/cis log-directory-protected ssh-host-keys-absent histories-absent
credential-files-absent home-private-keys-absent trust-files-absent machine-id-empty seeds-absent logs-empty temporary-files-absent
package-caches-empty schedules-absent telnet-server-absent telnet-client-absent rsh-absent ftp-absent ftp-server-absent talk-absent nis-absent
ldap-absent nfs-absent samba-absent snmp-absent print-absent discovery-absent network-servers-absent autofs-absent prelink-absent login-hash
login-umask/cis core-dumps-off pam-no-empty-password pam-hash sudo-asks banner-motd banner-issue banner-issue-net/text apt-authenticated names-resolve
certificates-present time-zones-present ssh-root-login ssh-empty-passwords ssh-user-environment ssh-rhosts ssh-auth-tries ssh-sessions ssh-grace
ssh-log-level ssh-pam ssh-ciphers ssh-config-mode image-user image-healthcheck image-ports image-no-secrets image-path-absolute image-path-protected
image-program-exists image-workdir image-volumes inputs-by-digest inputs-signed
layers-no-secrets history-verified`

	strictIDs = `
account-unused-defaults account-password-max-age account-password-min-age account-home-files account-backups-absent setgid-directories
private-keys-absent root-home-empty leftovers-absent unused-packages-absent package-manager-absent shells-absent documentation-absent
ssh-server-absent sudo-absent cron-absent fetch-tools-absent compilers-absent debuggers-absent mail-servers-absent display-absent time-daemons-absent
rsync-absent login-max-days login-min-days login-warn-days login-inactive shell-umask/group root-umask shells-list su-restricted/wheel sudo-pty sudo-log
apt-no-weak-dependencies ssh-forwarding/all ssh-gssapi ssh-idle/cis image-user-known image-exec-form image-labels
certificates-known language-installers-absent layers-no-hidden-setid history-copy-only history-no-upgrade history-update-with-install history-no-sudo history-no-piped-script image-base-digest image-base-tag
account-no-shell/all setuid-cleared/none
setgid-cleared/none capabilities-cleared/none login-umask/stig`
)

func TestContainerProfilesStay(t *testing.T) {
	c, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"container-baseline": baselineIDs, "container-strict": strictIDs} {
		var got []string
		for _, ch := range c.profiles[name].Objectives {
			id := ch.ID
			if ch.Variant != "" {
				id += "/" + ch.Variant
			}
			got = append(got, id)
			if k, _ := c.Objective(ch.ID); k.Scope == "machine" {
				t.Errorf("%s has %s, which is for machines", name, ch.ID)
			}
		}
		if have := strings.Join(got, " "); have != strings.Join(strings.Fields(want), " ") {
			t.Errorf("%s changed:\n%s\nwant:\n%s", name, have, want)
		}
	}
}
