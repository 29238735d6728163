// SPDX-License-Identifier: Apache-2.0

// Ask a quorum server: ask HOST:PORT TEXT NAMES. README.md says how to build it.
package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"log"
	"math"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	pb "quorum.example/ask/inference"
)

// text makes a BYTES tensor.
func text(name string, values ...string) *pb.ModelInferRequest_InferInputTensor {
	contents := &pb.InferTensorContents{}
	for _, value := range values {
		contents.BytesContents = append(contents.BytesContents, []byte(value))
	}
	return &pb.ModelInferRequest_InferInputTensor{
		Name: name, Datatype: "BYTES", Shape: []int64{int64(len(values))}, Contents: contents,
	}
}

// elements reads a BYTES tensor: a length of 4 bytes, little-endian, before each element.
func elements(raw []byte) (found []string) {
	for len(raw) > 0 {
		size := binary.LittleEndian.Uint32(raw)
		found, raw = append(found, string(raw[4:4+size])), raw[4+size:]
	}
	return found
}

func main() {
	address, product, attributes := os.Args[1], os.Args[2], strings.Split(os.Args[3], ",")
	connection, err := grpc.Dial(address, grpc.WithInsecure())
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 6*time.Second)
	defer cancel()
	if key := os.Getenv("QUORUM_INFERENCE_KEY"); key != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key)
	}
	fiveSeconds := &pb.InferParameter{ParameterChoice: &pb.InferParameter_Int64Param{Int64Param: 5000000}}
	answer, err := pb.NewGRPCInferenceServiceClient(connection).ModelInfer(ctx, &pb.ModelInferRequest{
		ModelName:  "quorum",
		Parameters: map[string]*pb.InferParameter{"timeout": fiveSeconds}, // for the members
		Inputs: []*pb.ModelInferRequest_InferInputTensor{
			text("TEXT", product), text("CATEGORY", ""), text("ATTRIBUTES", attributes...),
		},
	})
	if err != nil {
		log.SetFlags(0)
		log.Fatalf("%s: %s", status.Code(err), status.Convert(err).Message())
	}
	raw := map[string][]byte{}
	for i, output := range answer.Outputs {
		raw[output.Name] = answer.RawOutputContents[i]
	}
	values, members, votes := elements(raw["VALUES"]), elements(raw["MEMBERS"]), elements(raw["MEMBER_VALUES"])
	for i, attribute := range attributes {
		confidence := math.Float32frombits(binary.LittleEndian.Uint32(raw["CONFIDENCE"][4*i:]))
		fmt.Printf("%s = %s (%.2f)\n", attribute, values[i], confidence)
		for j, member := range members {
			at := j*len(values) + i
			state := int32(binary.LittleEndian.Uint32(raw["MEMBER_STATUS"][4*at:]))
			fmt.Printf("  %s %d %s\n", member, state, votes[at])
		}
	}
	fmt.Println("version", int64(binary.LittleEndian.Uint64(raw["WEIGHTS_VERSION"])))
}
