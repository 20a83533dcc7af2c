// Package seglog keeps records in append-only segment files, durably.
//
// A log is a directory of files NNNNNNNNNNNNNNNNNNNN.seg, where N is the
// segment's base: a number that the owner gives, such as the index of the
// first record. Only the last segment is written to. A file is
//
//	header  "GRVNSEG1", base as uint64, CRC-32C of both    20 bytes
//	frame   length of body as uint32, CRC-32C of body, body
//	frame   …
//	zeros   space taken in advance
//
// with integers little-endian. What a body means is the owner's business; an
// empty one is not allowed, so that four zero bytes end the frames.
//
// [Log.Append] writes a batch of frames with one write and one fdatasync, into
// space that was filled with zeros before, so that the file's size does not
// change and the file system has no metadata to commit. When it returns, the
// batch is durable. When it fails, one of three things is true:
//
//   - [ErrFull]: there was no room. Nothing was written; try again later.
//   - any other error: the write failed and was undone. Nothing was written.
//   - [ErrBroken]: fdatasync failed, or the undoing did. What is on disk is
//     unknown, since the kernel may drop pages that it could not write, so the
//     log takes nothing more until it is opened anew.
//
// After a crash the last segment may end in a part of a batch that was never
// acknowledged. The log cannot tell where batches begin, so the owner scans
// the segment, decides, and calls [Log.Cut].
//
// A log that may be damaged, or that someone may have changed, is read with a
// [Survey].
package seglog
