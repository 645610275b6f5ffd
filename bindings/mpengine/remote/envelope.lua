--- What goes between submitter and worker: a task or a result, signed when there is a key (lenvelope.c).
local core = require "mpengine.core"

local envelope = {}

--- The key in a file, for the calls of lenvelope.c. Raises for one that is absent, empty or readable by others.
---@param path string?
---@return userdata?
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
    return core.mac_key(key)
end

-- ---- tasks -----------------------------------------------------------------------------------
--
-- The content of a task is a head and its arguments.

local FORMAT <const> = "<Bdds2" -- of the head

envelope.ITEMS, envelope.STAR, envelope.PACK = 1, 2, 4 -- flags: items for a call each, which are lists of
                                                       -- arguments, whose results are all wanted

--- The head of a task, for core.envelope_seal.
function envelope.head(flags, timeout, expires, name) return string.pack(FORMAT, flags, timeout, expires, name) end

--- What a task has in its head, from its place in the bytes on: true, flags, seconds that it may run (0: any),
--- a time of os.time when it expires (0: never), name of the function, where its arguments begin. False for
--- damaged bytes.
function envelope.read_task(bytes, from) return pcall(string.unpack, FORMAT, bytes, from) end

--- The place of the content in a message that has been verified, or is only shown.
function envelope.content(sealed) return sealed:byte(1) == 49 and 34 or 2 end

return envelope
