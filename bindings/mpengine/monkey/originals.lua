--- The functions that patch_all has replaced, as they were, by their names: "socket.select",
--- "os.execute", and those of objects: "file:read", "tcp:receive".
local check = require "mpengine.check"

local originals = {}

local known = {} -- name -> the function as it was

-- Kind of socket -> the names of its classes in LuaSocket's and LuaSec's registry.
originals.classes = {
    tcp = "^tcp{", unix = "^unix{", unixstream = "^unixstream{", udp = "^udp{", unixdgram = "^unixdgram{",
    ssl = "^SSL:Connection$",
}

--- Calls replace, which replaces functions of the table, and keeps those that were there.
---@param prefix string of their names
---@param functions table
---@param replace fun()
function originals.keep(prefix, functions, replace)
    local before = {}
    for name, f in pairs(functions) do before[name] = f end
    replace()
    for name, f in pairs(before) do
        if functions[name] ~= f and not known[prefix .. name] then known[prefix .. name] = f end
    end
end

--- The metatables of a kind of sockets, a list.
function originals.metatables(kind)
    local list = {}
    for name, meta in pairs(debug.getregistry()) do
        local fits = type(name) == "string" and name:find(originals.classes[kind])
        if fits and type(meta) == "table" and type(meta.__index) == "table" then list[#list + 1] = meta end
    end
    return list
end

local modules = { os = package.loaded.os, io = package.loaded.io }

local function load_socket(name)
    local loaded, socket = pcall(require, "socket")
    if loaded then return socket end
    error(("monkey.original: '%s' is of LuaSocket, which cannot be loaded: %s"):format(name, socket))
end

--- The functions, replaced or not, that have names with this prefix.
local function functions_of(name, prefix)
    if modules[prefix] then return modules[prefix] end
    if prefix == "socket" then return load_socket(name) end
    if prefix == "socket.dns" then return load_socket(name).dns end
    if prefix == "file" then return getmetatable(io.stdin).__index end
    local meta = originals.classes[prefix] and originals.metatables(prefix)[1]
    return meta and meta.__index
end

--- The function of that name as it was before patch_all. One that is not replaced is returned as it is.
---@param name string as "socket.select", "os.execute"; methods as "file:read", "tcp:receive"
---@return function
function originals.get(name)
    check.type("monkey.original", 1, name, "string")
    local prefix, last = name:match "^(.-)[.:]([%w_]+)$"
    if name:find "^socket%.dns%." then prefix, last = "socket.dns", name:sub(#"socket.dns." + 1) end
    local functions = prefix and functions_of(name, prefix) -- loads LuaSocket, which may be patched then
    local found = known[name] or functions and functions[last]
    if type(found) == "function" then return found end
    error(("monkey.original: unknown name '%s' (one as 'socket.select', 'os.execute', 'file:read', 'tcp:receive' "
        .. "expected)"):format(name))
end

return originals
