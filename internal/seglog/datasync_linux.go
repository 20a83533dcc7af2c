package seglog

import (
	"os"

	"golang.org/x/sys/unix"
)

// datasync writes f's data to the device, and of its metadata what is needed
// to read the data back.
func datasync(f *os.File) error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if err != unix.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}
