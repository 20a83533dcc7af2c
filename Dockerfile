# Graven's programs and nothing else: no shell, no package manager, no user 0.
# docker build --build-arg VERSION=$(git describe --tags --always) -t graven-audit/graven .
FROM golang:1.26.8-trixie AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$VERSION" -o /out/bin/ ./cmd/...
RUN mkdir -p /out/data /out/etc && \
    echo 'graven:x:65532:65532:graven:/var/lib/graven:/none' > /out/etc/passwd && \
    echo 'graven:x:65532:' > /out/etc/group

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/etc/ /etc/
COPY --from=build /out/bin/ /usr/local/bin/
COPY --from=build --chown=65532:65532 /out/data/ /var/lib/graven/
ENV PATH=/usr/local/bin
USER 65532:65532
WORKDIR /var/lib/graven
EXPOSE 8090
ENTRYPOINT ["graven"]
CMD ["serve", "--listen", ":8090"]
