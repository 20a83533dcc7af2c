package main

import (
	"os"
	"testing"
)

func TestATokenNobodyNamedIsShownToThisMachineOnly(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("GRAVEN_TOKEN", "")
	if err := os.Mkdir("graven-data", 0o700); err != nil {
		t.Fatal(err)
	}
	for file, secret := range map[string]string{"graven-data/admin.token": "root\n", "named.token": "named\n"} {
		if err := os.WriteFile(file, []byte(secret), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct{ server, file, env, want string }{
		{server: defaultURL, want: "root"},
		{server: "http://localhost:8090", want: "root"},
		{server: "https://LOCALHOST", want: "root"},
		{server: "http://127.1.2.3:8090", want: "root"},
		{server: "http://[::1]:8090", want: "root"},
		{server: "http://[::ffff:127.0.0.1]:8090", want: "root"},
		{server: "http://audit.example:8090"},
		{server: "https://audit.example"},
		{server: "http://127.0.0.1.example"},
		{server: "http://127.0.0.1@audit.example"},
		{server: "http://localhost.example"},
		{server: "http://10.0.0.1"},
		{server: "http://0.0.0.0"},
		{server: "127.0.0.1:8090"},
		{server: "https://audit.example", file: "named.token", want: "named"},
		{server: "https://audit.example", env: "told", want: "told"},
		{server: "https://audit.example", file: "graven-data/admin.token", want: "root"},
	} {
		t.Setenv("GRAVEN_TOKEN", tt.env)
		got, err := (&connection{tokenFile: tt.file}).token(tt.server)
		if err != nil || got != tt.want {
			t.Errorf("%s is shown %q, want %q: %v", tt.server, got, tt.want, err)
		}
	}
}
