-- What luacheck knows about the Lua sources; `make lint` runs it.
std = "lua54"
max_line_length = 120
-- A method need not use its self.
self = false

files["spec"] = { std = "+busted" }

-- Patching the standard library is what this module is for.
files["bindings/mpengine/monkey.lua"] = { globals = { "os", "io" } }
