# One image for workers, planner, report and dashboard. Build arguments:
#   PYTHON_TAG       tag of the official python image
#   TORCH_INDEX_URL  index that torch comes from; empty takes pip's own index, whose Linux wheels carry CUDA and run on
#                    CPUs too. PyTorch's install page names the index of the smaller wheels without CUDA.
ARG PYTHON_TAG=3.11-slim

FROM python:${PYTHON_TAG} AS build
ARG TORCH_INDEX_URL=""
WORKDIR /build
# pip stays outside: the image that runs has no use for it.
RUN python -m venv --without-pip /opt/venv
ENV PIP_PYTHON=/opt/venv/bin/python PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# Dependencies change seldom, our code often: each has a layer of its own. All of constraints.txt but torch has hashes,
# and pip refuses to mix the two: torch comes second, when whatever else it needs is there (CUDA's packages excepted).
COPY constraints.txt .
RUN grep '^torch==' constraints.txt > torch.txt \
 && grep -v '^torch==' constraints.txt > hashed.txt \
 && pip install --require-hashes --no-deps -r hashed.txt \
 && pip install ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} -r torch.txt
COPY pyproject.toml README.md LICENSE ./
COPY search search
RUN pip install --no-deps --no-build-isolation . && pip check \
 # The corpus lies ready in the image, so that a worker starts at once and needs no place to write it.
 && cd / && XDG_CACHE_HOME=/opt/cache /opt/venv/bin/python -c "from search.objectives.corpus import load_corpus; load_corpus()" \
 && /opt/venv/bin/python -m compileall -q /opt/venv/lib/python3*/site-packages/search

FROM python:${PYTHON_TAG}
ARG VERSION=0.2.0
LABEL org.opencontainers.image.title="lm-search" org.opencontainers.image.version="${VERSION}"
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/cache /opt/cache
# /out keeps checkpoints and logs; /study is where a person's own study file, corpus and models are mounted.
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin search \
 && mkdir /out /study && chown search: /out /study && chmod 0750 /out
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    XDG_CACHE_HOME=/opt/cache SEARCH_OUT=/out
USER search
WORKDIR /study
VOLUME /out
STOPSIGNAL SIGTERM
CMD ["lm-search", "run", "--help"]
