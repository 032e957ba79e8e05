"""Java exceptions as arklet words them: class names, messages and long stack traces."""

from __future__ import annotations

_ARKLET = "com.alipay.sofa.koupleless.arklet.core"

_HANDLING = (
    f"{_ARKLET}.command.CommandServiceImpl.process(CommandServiceImpl.java:180)",
    f"{_ARKLET}.api.tunnel.http.netty.NettyHttpServer$NettyHttpHandler.channelRead0(NettyHttpServer.java:169)",
    "io.netty.channel.SimpleChannelInboundHandler.channelRead(SimpleChannelInboundHandler.java:99)",
    "io.netty.channel.AbstractChannelHandlerContext.invokeChannelRead(AbstractChannelHandlerContext.java:444)",
    "io.netty.channel.nio.NioEventLoop.run(NioEventLoop.java:562)",
    "java.lang.Thread.run(Thread.java:750)",
)

_NETTY = tuple(
    f"io.netty.{frame}"
    for frame in (
        "channel.AbstractChannelHandlerContext.invokeChannelRead(AbstractChannelHandlerContext.java:442)",
        "channel.AbstractChannelHandlerContext.invokeChannelRead(AbstractChannelHandlerContext.java:420)",
        "channel.AbstractChannelHandlerContext.fireChannelRead(AbstractChannelHandlerContext.java:412)",
        "handler.codec.MessageToMessageDecoder.channelRead(MessageToMessageDecoder.java:103)",
        "handler.codec.ByteToMessageDecoder.fireChannelRead(ByteToMessageDecoder.java:346)",
        "handler.codec.ByteToMessageDecoder.channelRead(ByteToMessageDecoder.java:318)",
        "channel.CombinedChannelDuplexHandler$DelegatingChannelHandlerContext.fireChannelRead(CombinedChannelDuplexHandler.java:436)",
        "channel.DefaultChannelPipeline$HeadContext.channelRead(DefaultChannelPipeline.java:1410)",
        "channel.DefaultChannelPipeline.fireChannelRead(DefaultChannelPipeline.java:919)",
        "channel.nio.AbstractNioByteChannel$NioByteUnsafe.read(AbstractNioByteChannel.java:166)",
        "channel.nio.NioEventLoop.processSelectedKey(NioEventLoop.java:788)",
        "channel.nio.NioEventLoop.processSelectedKeysOptimized(NioEventLoop.java:724)",
        "channel.nio.NioEventLoop.processSelectedKeys(NioEventLoop.java:650)",
        "util.concurrent.SingleThreadEventExecutor$4.run(SingleThreadEventExecutor.java:997)",
        "util.internal.ThreadExecutorMap$2.run(ThreadExecutorMap.java:74)",
        "util.concurrent.FastThreadLocalRunnable.run(FastThreadLocalRunnable.java:30)",
    )
)

_STARTING = (
    "com.alipay.sofa.ark.container.model.BizModel.doStart(BizModel.java:305)",
    "com.alipay.sofa.ark.container.model.BizModel.start(BizModel.java:262)",
    "com.alipay.sofa.ark.api.ArkClient.doInstallBiz(ArkClient.java:206)",
    "com.alipay.sofa.ark.api.ArkClient.installOperation(ArkClient.java:424)",
    f"{_ARKLET}.ops.UnifiedOperationServiceImpl.install(UnifiedOperationServiceImpl.java:92)",
)

_FETCHING = (
    "java.net.URL.openStream(URL.java:1092)",
    "com.alipay.sofa.ark.api.ArkClient.doInstallOperation(ArkClient.java:228)",
    f"{_ARKLET}.ops.UnifiedOperationServiceImpl.install(UnifiedOperationServiceImpl.java:92)",
)

_SPRING = tuple(
    f"org.springframework.{frame}"
    for frame in (
        "beans.factory.support.AbstractAutowireCapableBeanFactory.doCreateBean(AbstractAutowireCapableBeanFactory.java:628)",
        "beans.factory.support.AbstractBeanFactory.lambda$doGetBean$0(AbstractBeanFactory.java:335)",
        "beans.factory.support.DefaultSingletonBeanRegistry.getSingleton(DefaultSingletonBeanRegistry.java:234)",
        "beans.factory.support.DefaultListableBeanFactory.preInstantiateSingletons(DefaultListableBeanFactory.java:955)",
        "context.support.AbstractApplicationContext.refresh(AbstractApplicationContext.java:583)",
        "boot.SpringApplication.refreshContext(SpringApplication.java:409)",
        "boot.SpringApplication.run(SpringApplication.java:308)",
    )
)


class JavaError(Exception):
    """An exception in the simulated JVM.

    reason is what follows "Internal Error: " in the answer, trace the whole stack trace,
    detail the message of the exception without its class, which is null where it has none.
    """

    def __init__(self, reason: str, trace: str, detail: str = "null") -> None:
        super().__init__(reason)
        self.reason = reason
        self.trace = trace
        self.detail = detail


def invalid(message: str) -> JavaError:
    """Return the refusal of a command's parameters."""
    return JavaError(message, _stack(f"{_ARKLET}.common.exception.CommandValidationException: {message}", _HANDLING))


def null_pointer() -> JavaError:
    """Return what parameters of a wrong type lead to."""
    return JavaError("null", _stack("java.lang.NullPointerException", _HANDLING))


def thrown(exception: str, message: str, frames: tuple[str, ...] = _STARTING) -> JavaError:
    """Return an exception that a command ran into, wrapped as arklet wraps it."""
    cause = f"{exception}: {message}"
    trace = (
        _stack(f"{_ARKLET}.common.exception.ArkletRuntimeException: {cause}", _HANDLING)
        + "Caused by: "
        + _stack(cause, frames)
    )
    return JavaError(cause, trace, message)


def not_fetched(exception: str, message: str) -> JavaError:
    """Return what a jar that cannot be fetched leads to."""
    return thrown(exception, message, _FETCHING)


def stop_failed(identity: str) -> JavaError:
    """Return what a module's Spring context threw when it was closed."""
    return thrown("java.lang.IllegalStateException", f"module {identity} failed to stop")


def path_taken(path: str) -> JavaError:
    """Return what a web module runs into whose web context path another one has."""
    cause = f"java.lang.IllegalArgumentException: Child name [{path}] is not unique"
    server = "org.springframework.context.ApplicationContextException: Unable to start web server; nested exception is "
    tomcat = ("org.apache.catalina.core.ContainerBase.addChildInternal(ContainerBase.java:670)",)
    return _main_threw(_stack(server + cause, _SPRING), _stack(cause, tomcat))


def start_failed(identity: str, main_class: str) -> JavaError:
    """Return what a module's main method threw, and arklet called it by reflection: the reason is at the end alone."""
    frames = (f"{main_class}.main({main_class.rpartition('.')[2]}.java:15)",)
    return _main_threw(_stack(f"java.lang.IllegalStateException: module {identity} failed to start", frames))


def _main_threw(*causes: str) -> JavaError:
    reflected = "java.lang.reflect.InvocationTargetException"
    frames = ("java.base/jdk.internal.reflect.NativeMethodAccessorImpl.invoke0(Native Method)", *_STARTING, *_HANDLING)
    blocks = [
        _stack(f"{_ARKLET}.common.exception.ArkletRuntimeException: {reflected}", _HANDLING + _NETTY),
        _stack(reflected, frames + _NETTY),
        *causes,
    ]
    return JavaError(reflected, "Caused by: ".join(blocks))


def _stack(first: str, frames: tuple[str, ...]) -> str:
    return first + "\n" + "".join(f"\tat {frame}\n" for frame in frames)
