// A relay between a gRPC client and a server that speaks grpc-go on both sides: it takes any call,
// makes it again with grpc-go's client, and hands on the messages, the status and the trailers as
// they are. With it, requests of another client library reach a server as grpc-go sends them.
//
// It prints its address, and ends when its standard input does.
package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// Messages are handed on as bytes.
type raw struct{}

func (raw) Marshal(message any) ([]byte, error) { return *message.(*[]byte), nil }

func (raw) Unmarshal(data []byte, message any) error {
	*message.(*[]byte) = append([]byte(nil), data...)
	return nil
}

func (raw) Name() string { return "proto" }

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: relay HOST:PORT")
		os.Exit(2)
	}
	server, err := grpc.NewClient("passthrough:///"+os.Args[1],
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{}),
			grpc.MaxCallRecvMsgSize(math.MaxInt32), grpc.MaxCallSendMsgSize(math.MaxInt32)))
	exitOn(err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	exitOn(err)
	relay := grpc.NewServer(grpc.ForceServerCodec(raw{}), grpc.MaxRecvMsgSize(math.MaxInt32),
		grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
			return carry(server, stream)
		}))
	fmt.Println(listener.Addr())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		relay.Stop()
	}()
	exitOn(relay.Serve(listener))
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Carries one call: every message of the caller on, and every answer back.
func carry(server *grpc.ClientConn, caller grpc.ServerStream) error {
	method, known := grpc.MethodFromServerStream(caller)
	if !known {
		return status.Error(codes.Internal, "a call without a method")
	}
	ctx, cancel := context.WithCancel(caller.Context())
	defer cancel()
	call, err := server.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
	if err != nil {
		return err
	}
	go func() {
		for {
			var message []byte
			if err := caller.RecvMsg(&message); err != nil {
				// The caller has said all, or has gone, which ends its context.
				call.CloseSend()
				return
			}
			if call.SendMsg(&message) != nil {
				return
			}
		}
	}()
	for {
		var message []byte
		if err := call.RecvMsg(&message); err != nil {
			caller.SetTrailer(call.Trailer())
			if err == io.EOF {
				return nil
			}
			return err
		}
		if err := caller.SendMsg(&message); err != nil {
			return err
		}
	}
}
