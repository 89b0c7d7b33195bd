package main

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "peerprobe/contract"
)

func sealed(values ...[]byte) *pb.RecordBatch {
	var body []byte
	for _, v := range values {
		body = appendRecord(body, v)
	}
	id, epoch, sequence := int64(7), int64(0), int64(3)
	b := &pb.RecordBatch{RecordCount: int32(len(values)), BaseTimestamp: 1_700_000_000_000, ProducerId: &id,
		ProducerEpoch: &epoch, BaseSequence: &sequence, Body: &pb.RecordBatch_Records{Records: body}}
	crc := seal(b, body)
	b.Crc32C = &crc
	return b
}

// What is written by hand is what the contract's own code reads, and back.
func TestRecordsAreTheContractsRecords(t *testing.T) {
	values := [][]byte{{}, []byte("a"), bytes.Repeat([]byte("b"), 1024)}
	b := sealed(values...)
	var records pb.Records
	if err := proto.Unmarshal(b.Body.(*pb.RecordBatch_Records).Records, &records); err != nil {
		t.Fatal(err)
	}
	for i, r := range records.Records {
		if !bytes.Equal(r.Value, values[i]) {
			t.Fatalf("record %d is %q", i, r.Value)
		}
	}
	var got [][]byte
	if err := eachValue(b, 1, func(v []byte) { got = append(got, v) }); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || !bytes.Equal(got[0], values[1]) || !bytes.Equal(got[1], values[2]) {
		t.Fatalf("read %q", got)
	}
}

func TestABrokenBatchIsRefused(t *testing.T) {
	for name, harm := range map[string]func(*pb.RecordBatch){
		"a flipped bit":   func(b *pb.RecordBatch) { b.Body.(*pb.RecordBatch_Records).Records[5] ^= 1 },
		"another number":  func(b *pb.RecordBatch) { *b.BaseSequence++ },
		"without a seal":  func(b *pb.RecordBatch) { b.Crc32C = nil },
		"a missing field": func(b *pb.RecordBatch) { b.ProducerId = nil },
	} {
		b := sealed([]byte("something"))
		harm(b)
		if err := eachValue(b, 0, func([]byte) { t.Errorf("%s: handed out", name) }); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
