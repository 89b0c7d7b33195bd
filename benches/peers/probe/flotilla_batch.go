package main

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"google.golang.org/protobuf/encoding/protowire"

	pb "peerprobe/contract"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal is what crc32c must be, by the contract's words on RecordBatch.crc32c.
func seal(b *pb.RecordBatch, body []byte) uint32 {
	or := func(v *int64) uint64 {
		if v == nil {
			return ^uint64(0)
		}
		return uint64(*v)
	}
	var f [42]byte
	binary.LittleEndian.PutUint32(f[0:], uint32(b.RecordCount))
	binary.LittleEndian.PutUint64(f[4:], uint64(b.BaseTimestamp))
	binary.LittleEndian.PutUint64(f[12:], or(b.ProducerId))
	binary.LittleEndian.PutUint64(f[20:], or(b.ProducerEpoch))
	binary.LittleEndian.PutUint64(f[28:], or(b.BaseSequence))
	if b.Transactional {
		f[36] = 1
	}
	f[37] = byte(b.Compression)
	schema := int32(-1)
	if b.SchemaId != nil {
		schema = *b.SchemaId
	}
	binary.LittleEndian.PutUint32(f[38:], uint32(schema))
	return crc32.Update(crc32.Checksum(f[:], castagnoli), castagnoli, body)
}

// appendRecord adds a record with this value to a serialised Records.
func appendRecord(body, value []byte) []byte {
	n := protowire.SizeTag(4) + protowire.SizeBytes(len(value))
	body = protowire.AppendTag(body, 1, protowire.BytesType)
	body = protowire.AppendVarint(body, uint64(n))
	body = protowire.AppendTag(body, 4, protowire.BytesType)
	return protowire.AppendBytes(body, value)
}

// eachValue checks the seal of a fetched batch and calls f with the values of its records from the
// skip-th on.
func eachValue(b *pb.RecordBatch, skip int64, f func([]byte)) error {
	raw, ok := b.Body.(*pb.RecordBatch_Records)
	if !ok {
		return fmt.Errorf("a batch without plain records at offset %d", b.BaseOffset)
	}
	body := raw.Records
	if b.Crc32C == nil || *b.Crc32C != seal(b, body) {
		return fmt.Errorf("broken seal of the batch at offset %d", b.BaseOffset)
	}
	for i := int64(0); len(body) > 0; i++ {
		num, typ, n := protowire.ConsumeTag(body)
		if n < 0 || num != 1 || typ != protowire.BytesType {
			return fmt.Errorf("what is no record in the batch at offset %d", b.BaseOffset)
		}
		rec, m := protowire.ConsumeBytes(body[n:])
		if m < 0 {
			return protowire.ParseError(m)
		}
		body = body[n+m:]
		if i < skip {
			continue
		}
		var value []byte
		for len(rec) > 0 {
			num, typ, n := protowire.ConsumeTag(rec)
			if n < 0 {
				return protowire.ParseError(n)
			}
			rec = rec[n:]
			if num == 4 && typ == protowire.BytesType {
				v, m := protowire.ConsumeBytes(rec)
				if m < 0 {
					return protowire.ParseError(m)
				}
				value, rec = v, rec[m:]
			} else {
				m := protowire.ConsumeFieldValue(num, typ, rec)
				if m < 0 {
					return protowire.ParseError(m)
				}
				rec = rec[m:]
			}
		}
		f(value)
	}
	return nil
}
