"""A plugin of gRPC by Google's own library: every kind of call, on messages that are bare bytes. Says its port, then what it notices.
With a word of its own, its answers end in it."""
import sys
import threading
import time
from concurrent import futures

import grpc


own = "".join(" at " + word for word in sys.argv[1:]).encode()


def say(text):
    print(text, flush=True)


def unary(request, context):
    company = dict(context.invocation_metadata()).get("x-company-id", "none")
    context.set_trailing_metadata((("x-note", "unary"),))
    return request + b" of " + company.encode() + own


def down(request, context):
    for n in range(int(request)):
        yield b"%d" % n


def up(requests, context):
    return b",".join(requests)


def both(requests, context):
    for request in requests:
        yield request[::-1] + own


def slow(request, context):
    say(f"slow {'deadline' if (context.time_remaining() or 1e9) < 1e6 else 'none'}")
    context.add_callback(lambda: say("slow over"))
    time.sleep(30)
    return b"late"


def endless(request, context):
    gone = threading.Event()
    # What stands behind a yield is not reached once the call is over.
    context.add_callback(lambda: (gone.set(), say("endless cancelled")))
    while not gone.wait(0.02):
        yield b"tick"


def fails(request, context):
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "the plugin's own: ä")


handlers = grpc.method_handlers_generic_handler("world.Echo", {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Down": grpc.unary_stream_rpc_method_handler(down),
    "Up": grpc.stream_unary_rpc_method_handler(up),
    "Both": grpc.stream_stream_rpc_method_handler(both),
    "Slow": grpc.unary_unary_rpc_method_handler(slow),
    "Endless": grpc.unary_stream_rpc_method_handler(endless),
    "Fails": grpc.unary_unary_rpc_method_handler(fails),
})
server = grpc.server(futures.ThreadPoolExecutor(16))
server.add_generic_rpc_handlers((handlers,))
say(server.add_insecure_port("127.0.0.1:0"))
server.start()
server.wait_for_termination()
