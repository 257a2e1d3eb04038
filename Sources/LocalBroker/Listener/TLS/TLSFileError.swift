/// Why a certificate, a key or an authority cannot be used; names the file.
package struct TLSFileError: Error, Equatable, CustomStringConvertible {
    package let description: String

    init(_ description: String) {
        self.description = description
    }
}
