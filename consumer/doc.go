// Package consumer is Kafka in: one stage runtime that polls, takes partitions
// over, drops repeats, tracks what is unfinished, commits behind it and hands
// partitions back, shared by matching, delivery and the due readers; and the
// matching stage itself.
//
// A [Stage] owns one kgo group client. Its work is done by a [Handler], which
// gets records as [Work], each with the duty to call Done once whatever the
// record led to is acknowledged by Kafka.
package consumer
