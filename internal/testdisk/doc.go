// Package testdisk gives tests disks that fail and lose power.
package testdisk
