--- What goes between submitter and worker: a task or a result, signed when there is a key. The signature
--- covers the place of the message too, so none passes for another.
local core = require "mpengine.core"

local envelope = {}

local SIGNATURE <const> = 32

--- The key in a file. Raises for one that is absent, empty or readable by others.
---@param path string?
---@return string?
function envelope.key(path)
    if not path then return nil end
    local mode, why = core.file_mode(path)
    if not mode then error(("key file '%s': %s"):format(path, why), 0) end
    if mode & 0x3f ~= 0 then
        error(("key file '%s' can be read by others: chmod 600 is expected"):format(path), 0)
    end
    local f, message = io.open(path, "rb")
    if not f then error(("key file '%s'"):format(message), 0) end
    local key = (f:read "a" or ""):gsub("%s+$", "")
    f:close()
    if key == "" then error(("key file '%s' is empty"):format(path), 0) end
    return key
end

--- The bytes as they are sent.
---@param key string?
---@param place string what it belongs to
---@param bytes string
function envelope.seal(key, place, bytes)
    if not key then return "0" .. bytes end
    return "1" .. core.hmac_sha256(key, place .. "\0" .. bytes) .. bytes
end

--- The bytes of a message, or nil and why it is not accepted.
---@return string?
---@return string? why
function envelope.open(key, place, sealed)
    local mark = sealed:sub(1, 1)
    if mark == "0" then
        if key then return nil, "it is not signed" end
        return sealed:sub(2)
    end
    if mark ~= "1" or #sealed < 1 + SIGNATURE then return nil, "it is damaged" end
    local bytes = sealed:sub(2 + SIGNATURE)
    if not key then return nil, "it is signed, and there is no key" end
    if not core.same_bytes(sealed:sub(2, 1 + SIGNATURE), core.hmac_sha256(key, place .. "\0" .. bytes)) then
        return nil, "its signature is wrong"
    end
    return bytes
end

-- ---- tasks -----------------------------------------------------------------------------------

---@class mpengine.remote.Task
---@field name string of the function
---@field items boolean the arguments are items, each for a call
---@field star boolean each item is a list of arguments
---@field pack boolean all results of each item
---@field timeout number seconds, 0: none
---@field args string encoded

local FORMAT <const> = "<Bdds2s4"

function envelope.task(task)
    local flags = (task.items and 1 or 0) | (task.star and 2 or 0) | (task.pack and 4 or 0)
    return string.pack(FORMAT, flags, task.timeout or 0, task.expires or 0, task.name, task.args)
end

function envelope.read_task(bytes)
    local ok, flags, timeout, expires, name, args = pcall(string.unpack, FORMAT, bytes)
    if not ok then return nil end
    return { items = flags & 1 ~= 0, star = flags & 2 ~= 0, pack = flags & 4 ~= 0, timeout = timeout,
        expires = expires, name = name, args = args }
end

--- The task of a message whose signature is not looked at: only to be shown.
function envelope.peek(sealed)
    return envelope.read_task(sealed:sub(sealed:sub(1, 1) == "1" and 2 + SIGNATURE or 2))
end

return envelope
