package factory

import (
	"errors"
	"fmt"

	"kiln"
	"kiln/internal/keys"
)

// KeyInfo describes a key without its secret.
type KeyInfo struct {
	Role   string      `json:"role"`
	ID     kiln.Digest `json:"id"`     // SHA-256 of the public key (PKIX DER)
	Public string      `json:"public"` // path of the PEM file
}

// NewKeys makes the keys of the roles named, or of every role that has none.
func (f *Factory) NewKeys(roles ...string) ([]KeyInfo, error) {
	if len(roles) == 0 {
		for _, role := range keys.Roles() {
			if !keys.Exists(f.path("keys"), role) {
				roles = append(roles, role)
			}
		}
	}
	if len(roles) == 0 {
		return nil, nil
	}
	pass, err := f.cfg.Passphrase()
	if err != nil {
		return nil, err
	}
	var made []KeyInfo
	for _, role := range roles {
		if _, err := keys.New(f.path("keys"), role, pass); err != nil {
			return made, kiln.Misuse(err)
		}
		info, err := f.keyInfo(role)
		if err != nil {
			return made, err
		}
		made = append(made, info)
	}
	return made, nil
}

func (f *Factory) keyInfo(role string) (KeyInfo, error) {
	public, err := keys.LoadPublic(f.path("keys"), role)
	if err != nil {
		return KeyInfo{}, err
	}
	id, err := keys.ID(public)
	if err != nil {
		return KeyInfo{}, err
	}
	path, err := keys.PublicPath(f.path("keys"), role)
	return KeyInfo{Role: role, ID: id, Public: path}, err
}

// Keys lists the keys of the state directory, in the order of the line.
func (f *Factory) Keys() ([]KeyInfo, error) {
	list := []KeyInfo{}
	for _, role := range keys.Roles() {
		if !keys.Exists(f.path("keys"), role) {
			continue
		}
		info, err := f.keyInfo(role)
		if err != nil {
			return nil, err
		}
		list = append(list, info)
	}
	return list, nil
}

// checkKeys fails before the work, not after it, where a key is missing or the pass phrase is wrong.
func (f *Factory) checkKeys() error {
	for _, role := range keys.Roles() {
		if !keys.Exists(f.path("keys"), role) {
			return kiln.Misuse(kiln.WithHint(fmt.Errorf("there is no signing key for the role %s", role), "make the missing keys with `kiln key new`"))
		}
	}
	_, err := f.key(keys.RoleRelease)
	if errors.Is(err, keys.ErrPassphrase) {
		return kiln.Misuse(kiln.WithHint(err, "give the one used with `kiln key new`: --passphrase-file FILE or KILN_KEY_PASSPHRASE"))
	}
	return err
}
