package chips

import "fmt"

// crcSensirion is the CRC-8 of Sensirion's sensors, of the AHT20 and of TI's HDC302x: polynomial 0x31,
// start 0xFF, not reflected (Sensirion SHT4x data sheet, section "Checksum calculation": BE EF gives 92).
func crcSensirion(b []byte) byte {
	crc := byte(0xFF)
	for _, v := range b {
		crc ^= v
		for range 8 {
			if crc&0x80 != 0 {
				crc = crc<<1 ^ 0x31
			} else {
				crc <<= 1
			}
		}
	}
	return crc
}

// crcMaxim is the CRC-8 of 1-Wire: polynomial x^8+x^5+x^4+1, reflected, start 0 (Maxim application note
// 27: the ROM 02 1C B8 01 00 00 00 gives A2).
func crcMaxim(b []byte) byte {
	crc := byte(0)
	for _, v := range b {
		crc ^= v
		for range 8 {
			if crc&1 != 0 {
				crc = crc>>1 ^ 0x8C
			} else {
				crc >>= 1
			}
		}
	}
	return crc
}

// wordsSensirion takes words out of an answer in which a CRC follows each of them.
func wordsSensirion(b []byte) ([]uint16, error) {
	words := make([]uint16, 0, len(b)/3)
	for i := 0; i+3 <= len(b); i += 3 {
		if err := checkSum(fmt.Sprintf("word %d", i/3), uint32(b[i+2]), uint32(crcSensirion(b[i:i+2]))); err != nil {
			return nil, err
		}
		words = append(words, uint16(b[i])<<8|uint16(b[i+1]))
	}
	return words, nil
}

// appendSensirion appends a word and its CRC, as a command's argument has to be sent.
func appendSensirion(b []byte, word uint16) []byte {
	b = append(b, byte(word>>8), byte(word))
	return append(b, crcSensirion(b[len(b)-2:]))
}
