//go:build !synctests

package app

const kgoLocksYield = false
