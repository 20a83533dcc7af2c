package jcs

import "bytes"

// space is what JSON takes for white space.
const space = " \t\r\n"

// Elements splits a JSON array into its elements without reading them, so that
// one that is malformed spoils no other; only strings and brackets must be
// balanced. Beyond limit elements it gives up and returns limit+1 of them.
func Elements(data []byte, limit int) ([][]byte, error) {
	data = bytes.Trim(data, space)
	if len(data) == 0 || data[0] != '[' {
		return nil, &Error{Reason: "expected an array"}
	}
	var elements [][]byte
	depth, start := 0, 1
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '"':
			if i = closingQuote(data, i); i < 0 {
				return nil, &Error{Reason: "the array ends within a string"}
			}
		case '[', '{':
			depth++
		case ']', '}':
			if depth--; depth > 0 {
				continue
			}
			if data[i] != ']' || i != len(data)-1 {
				return nil, &Error{Reason: "there is something behind the array", offset: i}
			}
			last := bytes.Trim(data[start:i], space)
			if len(elements) > 0 || len(last) > 0 {
				elements = append(elements, last)
			}
			return elements, nil
		case ',':
			if depth == 1 {
				elements = append(elements, bytes.Trim(data[start:i], space))
				start = i + 1
				if len(elements) > limit {
					return elements, nil
				}
			}
		}
	}
	return nil, &Error{Reason: "the array is cut off"}
}

// closingQuote returns where the string that begins at i ends, or -1.
func closingQuote(data []byte, i int) int {
	for i++; i < len(data); i++ {
		switch data[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return -1
}
