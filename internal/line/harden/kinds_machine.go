package harden

// machineKinds are the mechanisms of machines: what a kernel, an init system and people who log in need.
func machineKinds() []Kind {
	return []Kind{
		define("sysctl", phaseContent, sysctlState, sysctlApply),
		define("kernel-module", phaseContent, moduleState, moduleApply),
		define("kernel-argument", phaseContent, argumentState, argumentApply),
		define("mount", phaseContent, mountState, mountApply),
		define("unit-masked", phaseContent, maskedState, maskedApply),
		define("unit-enabled", phaseContent, enabledState, enabledApply),
		define("packages-present", phaseAsked, installedState, cannot[presentPackages]),
		define("config", phaseContent, configState, configApply),
		define("limit", phaseContent, limitState, limitApply),
		define("file-created", phaseContent, createdState, createdApply),
		define("audit-rules", phaseContent, auditState, auditApply),
		define("audit-set-id", phaseModes, auditSetidState, auditSetidApply),
		define("sudo-default", phaseContent, sudoState, sudoApply),
		define("pam", phaseContent, pamState, pamApply),
		define("iptables", phaseContent, iptablesState, iptablesApply),
		define("ufw", phaseContent, ufwState, ufwApply),
		define("nftables", phaseContent, nftablesState, nftablesApply),
		define("dconf", phaseContent, dconfState, dconfApply),
		define("own-unit", phaseContent, ownUnitState, ownUnitApply),
		define("log-owners", phaseModes, logOwnersState, logOwnersApply),
		define("apt-setting", phaseContent, aptState, aptApply),
	}
}
