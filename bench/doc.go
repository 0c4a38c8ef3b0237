// Command bench measures Posthorn whole: a broker and the line as processes of
// their own, a feeder and a receiver in this one, all on this machine's cores,
// and in the same run the limits, loops that do nothing but POST.
//
//	go run ./bench -list
//	go run ./bench hundred latency
//
// Every target's figures are medians of its runs with the least and the
// greatest. They are printed as a table, and merged into
// .cache/bench/results.json. CPU is user and system time of the process that is
// named, as the kernel counts it (proc(5), /proc/PID/stat).
package main
