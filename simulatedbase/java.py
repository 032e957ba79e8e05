"""Java exceptions as arklet words them: class names, messages and long stack traces."""

from __future__ import annotations

from collections.abc import Sequence

_ARKLET = "com.alipay.sofa.koupleless.arklet.core"
_REFUSED = f"{_ARKLET}.common.exception.CommandValidationException"
_WRAPPED = f"{_ARKLET}.common.exception.ArkletRuntimeException"
_REFLECTED = "java.lang.reflect.InvocationTargetException"

_FRAMES = (
    f"{_ARKLET}.command.CommandServiceImpl.process(CommandServiceImpl.java:180)",
    f"{_ARKLET}.api.tunnel.http.netty.NettyHttpServer$NettyHttpHandler.channelRead0(NettyHttpServer.java:169)",
    "io.netty.channel.SimpleChannelInboundHandler.channelRead(SimpleChannelInboundHandler.java:99)",
    "io.netty.channel.AbstractChannelHandlerContext.invokeChannelRead(AbstractChannelHandlerContext.java:444)",
    "io.netty.channel.AbstractChannelHandlerContext.invokeChannelRead(AbstractChannelHandlerContext.java:420)",
    "io.netty.channel.AbstractChannelHandlerContext.fireChannelRead(AbstractChannelHandlerContext.java:412)",
    "io.netty.handler.codec.MessageToMessageDecoder.channelRead(MessageToMessageDecoder.java:103)",
    "io.netty.handler.codec.ByteToMessageDecoder.fireChannelRead(ByteToMessageDecoder.java:346)",
    "io.netty.handler.codec.ByteToMessageDecoder.channelRead(ByteToMessageDecoder.java:318)",
    "io.netty.channel.DefaultChannelPipeline$HeadContext.channelRead(DefaultChannelPipeline.java:1410)",
    "io.netty.channel.AbstractChannelHandlerContext.invokeChannelRead(AbstractChannelHandlerContext.java:440)",
    "io.netty.channel.AbstractChannelHandlerContext.invokeChannelRead(AbstractChannelHandlerContext.java:420)",
    "io.netty.channel.DefaultChannelPipeline.fireChannelRead(DefaultChannelPipeline.java:919)",
    "io.netty.channel.nio.AbstractNioByteChannel$NioByteUnsafe.read(AbstractNioByteChannel.java:166)",
    "io.netty.channel.nio.NioEventLoop.processSelectedKey(NioEventLoop.java:788)",
    "io.netty.channel.nio.NioEventLoop.processSelectedKeysOptimized(NioEventLoop.java:724)",
    "io.netty.channel.nio.NioEventLoop.processSelectedKeys(NioEventLoop.java:650)",
    "io.netty.channel.nio.NioEventLoop.run(NioEventLoop.java:562)",
    "io.netty.util.concurrent.SingleThreadEventExecutor$4.run(SingleThreadEventExecutor.java:997)",
    "io.netty.util.internal.ThreadExecutorMap$2.run(ThreadExecutorMap.java:74)",
    "io.netty.util.concurrent.FastThreadLocalRunnable.run(FastThreadLocalRunnable.java:30)",
    "java.lang.Thread.run(Thread.java:750)",
)
"""The same for every exception: what matters is that traces are as long as real ones."""


class JavaError(Exception):
    """An exception in the simulated JVM.

    reason is what follows "Internal Error: " in the answer, trace the whole stack trace, detail the message of the
    exception without its class, which is null where it has none.
    """

    def __init__(self, reason: str, trace: str, detail: str = "null") -> None:
        super().__init__(reason)
        self.reason = reason
        self.trace = trace
        self.detail = detail


def invalid(message: str) -> JavaError:
    """Return the refusal of a command's parameters."""
    return JavaError(message, _block(f"{_REFUSED}: {message}"))


def null_pointer() -> JavaError:
    """Return what parameters of a wrong type lead to."""
    return JavaError("null", _block("java.lang.NullPointerException"))


def thrown(exception: str, message: str) -> JavaError:
    """Return an exception that a command ran into, wrapped as arklet wraps it."""
    cause = f"{exception}: {message}"
    return JavaError(cause, _trace(_block(f"{_WRAPPED}: {cause}"), _block(cause)), message)


def path_taken(path: str) -> JavaError:
    """Return what a web module runs into whose web context path another one has."""
    cause = f"java.lang.IllegalArgumentException: Child name [{path}] is not unique"
    server = "org.springframework.context.ApplicationContextException: Unable to start web server; nested exception is "
    return _main_threw(_block(server + cause), _block(cause))


def start_failed(identity: str, main_class: str) -> JavaError:
    """Return what a module's main method threw, and arklet called it by reflection: the reason is at the end alone."""
    frame = f"{main_class}.main({main_class.rpartition('.')[2]}.java:15)"
    return _main_threw(_block(f"java.lang.IllegalStateException: module {identity} failed to start", [frame]))


def _main_threw(*causes: str) -> JavaError:
    return JavaError(_REFLECTED, _trace(_block(f"{_WRAPPED}: {_REFLECTED}"), _block(_REFLECTED), *causes))


def _trace(*blocks: str) -> str:
    return "Caused by: ".join(blocks)


def _block(first: str, frames: Sequence[str] = _FRAMES) -> str:
    return first + "\n" + "".join(f"\tat {frame}\n" for frame in frames)
