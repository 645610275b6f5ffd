--- The certificate and the key of a server: names of files, or their text.
local tls = {}

local function read(call, name, value)
    if type(value) ~= "string" then
        error(("%s: field 'tls.%s' must be the name of a file in PEM form, or its text"):format(call, name), 4)
    end
    if value:find("-----BEGIN", 1, true) then return value end
    local file, why = io.open(value, "rb")
    local text = file and file:read "a"
    if file then file:close() end
    if not text then error(("%s: field 'tls.%s': %s"):format(call, name, why), 4) end
    return text
end

--- The texts of both. Raises for the caller's caller.
---@param call string
---@param settings { cert: string, key: string }
---@return string cert
---@return string key
function tls.load(call, settings)
    for name in pairs(settings) do
        if name ~= "cert" and name ~= "key" then
            error(("%s: unknown field 'tls.%s'"):format(call, tostring(name)), 3)
        end
    end
    return read(call, "cert", settings.cert), read(call, "key", settings.key)
end

return tls
