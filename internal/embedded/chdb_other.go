//go:build (!linux && !darwin) || nochdb

package embedded

import "errors"

var errNoCHDB = errors.New("this build of Posthorn has no embedded ClickHouse: there is no libchdb for the platform, or it was built with the tag nochdb")

type (
	chdb       struct{ connectArguments []string }
	chdbConn   struct{}
	chdbResult struct{}
	chdbStream struct{}
	chdbInsert struct{}
)

func loadCHDB(string) (*chdb, error) { return nil, errNoCHDB }

func (*chdb) open() (*chdbConn, error) { return nil, errNoCHDB }

func (*chdbConn) close()                   {}
func (*chdbConn) class(string) (bool, int) { return false, 0 }
func (*chdbConn) query(_, _ string, _ []parameter) (chdbResult, error) {
	return chdbResult{}, errNoCHDB
}
func (*chdbConn) stream(_, _ string, _ []parameter) (*chdbStream, error) { return nil, errNoCHDB }
func (*chdbConn) insert(_, _ string, _ []parameter) (*chdbInsert, error) { return nil, errNoCHDB }

func (chdbResult) data() []byte     { return nil }
func (chdbResult) summary() summary { return summary{} }
func (chdbResult) destroy()         {}

func (*chdbStream) next() (chdbResult, error) { return chdbResult{}, errNoCHDB }
func (*chdbStream) destroy()                  {}

func (*chdbInsert) append([]byte) bool     { return false }
func (*chdbInsert) done() (summary, error) { return summary{}, errNoCHDB }
func (*chdbInsert) cancel()                {}
func (*chdbInsert) destroy()               {}
