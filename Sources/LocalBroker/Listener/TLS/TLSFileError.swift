/// Why a certificate, a key or an authority cannot be used; names the file.
struct TLSFileError: Error, Equatable, CustomStringConvertible {
    let description: String

    init(_ description: String) {
        self.description = description
    }
}
