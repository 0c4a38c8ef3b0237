//go:build !linux

package embedded

import "errors"

// confine can't, without Landlock.
func confine(string) error {
	return errors.New("only Linux confines the engine: statements can reach this user's files and programs")
}
