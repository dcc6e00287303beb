package harden

import "slices"

// kinds is the one list of mechanisms. The catalogue's data choose among them.
var kinds = byName(allKinds())

func byName(list []Kind) map[string]Kind {
	out := map[string]Kind{}
	for _, k := range list {
		out[k.Name] = k
	}
	return out
}

func allKinds() []Kind {
	return slices.Concat(fileKinds(), accountKinds(), packageKinds(), settingKinds(), imageKinds(), machineKinds())
}

func fileKinds() []Kind {
	wwState, wwApply := sweep(worldWritable, clearOthersWrite)
	stState, stApply := sweep(notSticky, setSticky)
	sgState, sgApply := sweep(sharedSetgid, clearSetgid)
	dvState, dvApply := sweep(isDevice, removeEntry)
	return []Kind{
		define("file-mode", phaseModes, modeState, modeApply),
		define("tree-mode", phaseModes, treeState, treeApply),
		define("files-absent", phaseTraces, absentState, absentApply),
		define("file-content", phaseContent, contentState, contentApply),
		define("files-empty", phaseTraces, emptyState, emptyApply),
		define("directory-empty", phaseTraces, directoryState, directoryApply),
		define("setid-cleared", phaseModes, setidState, setidApply),
		define("capabilities-cleared", phaseModes, capabilityState, capabilityApply),
		define("world-writable-files", phaseModes, wwState, wwApply),
		define("sticky-directories", phaseModes, stState, stApply),
		define("setgid-directories", phaseModes, sgState, sgApply),
		define("device-files-absent", phaseTraces, dvState, dvApply),
		define("owned-files", phaseModes, ownedState, ownedApply),
		define("certificates-known", phaseContent, bundleState, cannot[bundleOfCAs]),
		define("file-present", phaseContent, presenceState, cannot[presenceParams]),
	}
}

func accountKinds() []Kind {
	epState, epApply := accountRule("etc/shadow", emptyPassword, lockRow)
	lkState, lkApply := accountRule("etc/shadow", passwordOpen, lockPassword)
	shState, shApply := accountRule("etc/passwd", hasShell, takeShell)
	rgState, rgApply := accountRule("etc/passwd", rootGroup, setGroup)
	gmState, _ := accountRule("etc/passwd", groupMissing, nil)
	agState, agApply := accountRule("etc/shadow", ageWrong, ageMend)
	chState, chApply := accountRule("etc/shadow", changedInFuture, changedNow)
	zuState, zuApply := dropRows("etc/passwd", zeroUser)
	zgState, zgApply := dropRows("etc/group", zeroGroup)
	return []Kind{
		define("account-empty-password", phaseContent, epState, epApply),
		define("account-locked", phaseContent, lkState, lkApply),
		define("account-no-shell", phaseContent, shState, shApply),
		define("account-root-group", phaseContent, rgState, rgApply),
		define("account-group-exists", phaseContent, gmState, groupExistsApply),
		define("account-password-age", phaseContent, agState, agApply),
		define("account-changed-in-past", phaseContent, chState, chApply),
		define("account-zero-uid", phaseContent, zuState, zuApply),
		define("group-zero-gid", phaseContent, zgState, zgApply),
		define("account-shadowed", phaseContent, shadowedState, shadowedApply),
		define("account-unique", phaseContent, uniqueState, uniqueApply),
		define("group-no-members", phaseContent, membersState, membersApply),
		define("group-empty", phaseContent, emptyGroupState, emptyGroupApply),
		define("account-unused-defaults", phaseContent, defaultsState, defaultsApply),
		define("account-homes", phaseModes, homeState, homeApply),
	}
}

func packageKinds() []Kind {
	return []Kind{
		define("packages-absent", phaseAsked, packageState, packageApply),
		define("asked-packages-absent", phaseAsked, askedState, askedApply),
		define("unused-packages-absent", phaseAsked, unusedState, unusedApply),
		define("package-manager-absent", phaseRemoval, managerState, bundleApply),
		define("shells-absent", phaseRemoval, shellsState, bundleApply),
		define("documentation-absent", phaseRemoval, docsState, docsApply),
	}
}

func settingKinds() []Kind {
	return []Kind{
		define("key-value", phaseContent, keyState, keyApply),
		define("line-absent", phaseContent, lineState, lineApply),
		define("line-present", phaseContent, presentState, presentApply),
		define("shell-umask", phaseContent, shellUmaskState, shellUmaskApply),
		define("sshd", phaseContent, sshdState, sshdApply),
	}
}

func imageKinds() []Kind {
	return []Kind{
		define("image-user", phaseConfig, userState, cannot[userParams]),
		define("image-healthcheck", phaseConfig, healthState, cannot[none]),
		define("image-ports", phaseConfig, portState, cannot[portParams]),
		define("image-no-secrets", phaseConfig, secretsState, cannot[none]),
		define("image-path", phaseConfig, pathState, pathApply),
		define("image-entrypoint", phaseConfig, entryState, cannot[none]),
		define("image-history", phaseConfig, historyState, cannot[historyParams]),
		define("image-base", phaseConfig, imageBaseState, cannot[baseParams]),
		define("layer-secrets", phaseConfig, layerSecretState, cannot[layerSecretParams]),
		define("layer-setid", phaseConfig, layerSetidState, cannot[none]),
		define("image-program", phaseConfig, entryExists, cannot[none]),
		define("image-workdir", phaseConfig, workdirState, cannot[none]),
		define("image-volumes", phaseConfig, volumeState, cannot[volumeParams]),
		define("image-labels", phaseConfig, labelState, cannot[labelParams]),
		define("inputs-by-digest", phaseConfig, baseState, cannot[none]),
		define("inputs-signed", phaseConfig, signedState, cannot[none]),
	}
}
