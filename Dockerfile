# The search service in a container, on the CPU or (--target cuda) on an NVIDIA GPU:
#   docker build -t embedkit .
#   docker run -p 127.0.0.1:8000:8000 -v "$PWD:/data" -e EMBEDKIT_TOKEN=... embedkit photos.index
# PyTorch's packages for the CPU alone make a smaller image: give the address of their index by
# --build-arg PIP_EXTRA_INDEX_URL=...
FROM python:3.12-slim AS base
ARG PIP_EXTRA_INDEX_URL=""
COPY . /src
RUN pip install --no-cache-dir "/src[serve,verify]" && rm -rf /src
RUN useradd --create-home embedkit && mkdir /data /cache && chown embedkit /data /cache
ENV EMBEDKIT_CACHE=/cache
USER embedkit
WORKDIR /data
EXPOSE 8000
HEALTHCHECK CMD ["python", "-c", \
  "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz')"]

FROM base AS cuda
ENTRYPOINT ["embedkit", "serve", "--host", "0.0.0.0", "--device", "cuda", "--batch-size", "32"]

FROM base AS cpu
ENTRYPOINT ["embedkit", "serve", "--host", "0.0.0.0"]
