# syntax=docker/dockerfile:1
# One image with all programs: docker buildx build --platform linux/amd64,linux/arm64 -t NAME:TAG --push .
# Everything but the base image is pinned by the locks, with hashes.
ARG PYTHON=3.14

FROM python:${PYTHON}-slim-bookworm AS build
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/module-controller
ENV PATH=/opt/module-controller/bin:$PATH
# Dependencies first: they change less often than the project.
COPY requirements-build.lock requirements.lock ./
RUN pip install --require-hashes -r requirements-build.lock \
 && pip install --require-hashes --no-build-isolation -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY controlplane controlplane
COPY examples examples
COPY gateways gateways
COPY grpcclient grpcclient
COPY kubeaccess kubeaccess
COPY mctl mctl
COPY modulecontroller modulecontroller
COPY mqttclient mqttclient
COPY proto/gen proto/gen
COPY service service
COPY simulatedbase simulatedbase
RUN pip install --no-deps --no-build-isolation . \
 && pip uninstall --yes pip setuptools

FROM python:${PYTHON}-slim-bookworm
COPY --from=build /opt/module-controller /opt/module-controller
ENV PATH=/opt/module-controller/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# The number, not a name: Kubernetes can tell that it is not root. All that may be written is below /tmp.
USER 65532:65532
ENV HOME=/tmp
WORKDIR /tmp
# HTTP tunnel, gRPC, reports, health, metrics.
EXPOSE 7777 50051 8080 8081 9090
CMD ["module-controller"]
