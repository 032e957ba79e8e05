"""Java exceptions as arklet words them: class names, messages and long stack traces."""

from __future__ import annotations

_ARKLET = "com.alipay.sofa.koupleless.arklet.core"

_HANDLING = (
    f"{_ARKLET}.command.CommandServiceImpl.process(CommandServiceImpl.java:108)",
    f"{_ARKLET}.api.tunnel.http.netty.NettyHttpServer$NettyHttpHandler.channelRead0(NettyHttpServer.java:118)",
    "io.netty.channel.SimpleChannelInboundHandler.channelRead(SimpleChannelInboundHandler.java:99)",
    "io.netty.channel.AbstractChannelHandlerContext.invokeChannelRead(AbstractChannelHandlerContext.java:444)",
    "io.netty.channel.nio.NioEventLoop.run(NioEventLoop.java:562)",
    "java.lang.Thread.run(Thread.java:750)",
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

    reason is what follows "Internal Error: " in the answer, trace the whole stack trace.
    """

    def __init__(self, reason: str, trace: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.trace = trace


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
    return JavaError(cause, trace)


def not_fetched(exception: str, message: str) -> JavaError:
    """Return what a jar that cannot be fetched leads to."""
    return thrown(exception, message, _FETCHING)


def stop_failed(identity: str) -> JavaError:
    """Return what a module's Spring context threw when it was closed."""
    return thrown("java.lang.IllegalStateException", f"module {identity} failed to stop")


def start_failed(identity: str) -> JavaError:
    """Return what a module's Spring context threw at start-up: several KiB, the reason at the end."""
    cause = f"java.lang.IllegalStateException: module {identity} failed to start"
    wrappers = (
        f"{_ARKLET}.common.exception.ArkletRuntimeException: {cause}",
        cause,
        "org.springframework.context.ApplicationContextException: Unable to start web server",
        "org.springframework.beans.factory.BeanCreationException: Error creating bean with name 'server'",
        "org.springframework.boot.web.server.WebServerException: Unable to start embedded server",
    )
    root = _stack("java.net.BindException: Address already in use", ("sun.nio.ch.Net.bind0(Native Method)",))
    blocks = [_stack(wrapper, _SPRING + _STARTING + _HANDLING) for wrapper in wrappers]
    return JavaError(cause, "Caused by: ".join([*blocks, root]))


def _stack(first: str, frames: tuple[str, ...]) -> str:
    return first + "\n" + "".join(f"\tat {frame}\n" for frame in frames)
