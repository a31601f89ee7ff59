package scripts

// A rule is what the scripts of one package come to on a first installation.
type rule struct {
	steps string   // of order, separated by spaces; "" when nothing is to do
	units []string // systemd units that the package enables
	omits []string // what is left out, for people
}

// What several rules leave out.
const (
	restarts   = "restarting of services: nothing runs yet"
	tempFiles  = "systemd-tmpfiles: left to the boot, but for directories and links in /etc"
	sysvLinks  = "links in etc/rc?.d: systemd does not read them"
	ldCache    = "etc/ld.so.cache: the loader searches its directories"
	unitState  = "var/lib/systemd/deb-systemd-helper-enabled: deb-systemd-helper's memory"
	dpkgState  = "dpkg's database: the image has none"
	noQuestion = "debconf's questions: the defaults hold"
)

// table is sorted by name. A rule without steps and omissions is for scripts that only matter for
// upgrades from older versions, or that check something which holds in every image.
var table = map[string]rule{
	"apt":                    {steps: "accounts sysusers shadow units", units: []string{"apt-daily.timer", "apt-daily-upgrade.timer"}, omits: []string{unitState}},
	"base-files":             {steps: "base"},
	"base-passwd":            {steps: "accounts shadow"},
	"bash":                   {steps: "alternatives"},
	"binutils":               {},
	"ca-certificates":        {steps: "certificates", omits: []string{"links by subject hash in etc/ssl/certs", "hooks of etc/ca-certificates/update.d"}},
	"cpio":                   {steps: "alternatives"},
	"cpp":                    {steps: "alternatives"},
	"dash":                   {},
	"dbus":                   {steps: "sysusers shadow owners", omits: []string{sysvLinks, restarts}},
	"dbus-daemon":            {steps: "files", omits: []string{tempFiles, "var/lib/dbus/machine-id: left to the boot"}},
	"dbus-system-bus-common": {steps: "sysusers shadow"},
	"debconf":                {omits: []string{noQuestion}},
	"debian-archive-keyring": {},
	"debianutils":            {steps: "files alternatives", omits: []string{"var/lib/shells.state: update-shells' memory"}},
	"dpkg":                   {steps: "units", units: []string{"dpkg-db-backup.timer"}, omits: []string{dpkgState, unitState}},
	"g++":                    {steps: "alternatives"},
	"gcc":                    {steps: "alternatives"},
	"gzip":                   {},
	"init-system-helpers":    {},
	"initramfs-tools":        {omits: []string{"initrd: the image has its own"}},
	"initramfs-tools-core":   {omits: []string{"etc/initramfs-tools/modules"}},
	"klibc-utils":            {},
	"kmod":                   {steps: "files", omits: []string{"comments in etc/modules"}},
	"libc-bin":               {steps: "files", omits: []string{ldCache}},
	"libc6":                  {omits: []string{restarts}},
	"libcrypt-dev":           {},
	"libpam-modules":         {steps: "files"},
	"libpam-modules-bin":     {omits: []string{restarts}},
	"libpam-runtime":         {steps: "pam", omits: []string{"var/lib/pam: pam-auth-update's memory"}},
	"libpam0g":               {omits: []string{restarts}},
	"libselinux1":            {omits: []string{tempFiles}},
	"linux-base":             {omits: []string{noQuestion}},
	"linux-image-*":          {omits: []string{"modules.dep and its kin, initrd, links in the root: the image boots its own kernel"}},
	"login":                  {},
	"login.defs":             {},
	"mawk":                   {steps: "alternatives"},
	"passwd":                 {steps: "accounts shadow", omits: []string{tempFiles, "etc/passwd- and its kin, etc/.pwd.lock: there is no earlier state"}},
	"systemd": {steps: "accounts sysusers shadow files units tmpfiles", units: []string{"getty@tty1.service", "remote-fs.target", "systemd-pstore.service"},
		omits: []string{"journal catalog", tempFiles, restarts}},
	"systemd-sysv": {},
	"tar":          {steps: "alternatives"},
	"tzdata":       {steps: "files", omits: []string{noQuestion}},
	"udev":         {steps: "sysusers shadow", omits: []string{"usr/lib/udev/hwdb.bin: no properties from the hardware database", tempFiles, restarts}},
	"util-linux":   {steps: "alternatives units", units: []string{"fstrim.timer"}, omits: []string{restarts, unitState}},
}
